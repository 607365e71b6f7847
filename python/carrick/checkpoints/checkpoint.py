"""A checkpoint as its headers describe it: tensors by name, files, configuration, layers; no weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from carrick.checkpoints.folder import FolderFiles, files_of_index, folder_files, read_json
from carrick.checkpoints.headers import FileRecord, StoredTensor, read_file
from carrick.checkpoints.layers import (
    Stack,
    config_sections,
    find_stacks,
    locate,
    main_stack,
    without_appended,
)
from carrick.errors import FormatError


@dataclass
class Checkpoint:
    """A model's files: what each tensor is called and where it lies.

    Attributes
    ----------
    ref : the name it was asked for by (a path or a Hub id)
    folder : where config.json and the tokenizer are
    files : its safetensors files, by name
    tensors : tensor name to place, files in order, each in offset order
    config : config.json, or None
    revision : the commit of a Hub snapshot, or None
    notes : what a user should know about how the files were chosen
    """

    ref: str
    folder: Path
    files: list[FileRecord]
    tensors: dict[str, StoredTensor]
    config: dict[str, Any] | None = None
    revision: str | None = None
    notes: list[str] = field(default_factory=list)

    @cached_property
    def stacks(self) -> list[Stack]:
        """Stacks of layers, in file order."""
        found = find_stacks({name: t.elements for name, t in self.tensors.items()})
        return without_appended(found, self.config)

    @cached_property
    def main_stack(self) -> Stack | None:
        """The stack that layer ranges mean; None without layers or with two alike."""
        return main_stack(self.stacks, self.config)

    @cached_property
    def outside(self) -> list[str]:
        """Names of the tensors that are in no layer: embeddings, final norm, head."""
        prefixes = {stack.prefix for stack in self.stacks}
        places = ((name, locate(name)) for name in self.tensors)
        return [name for name, place in places if place is None or place.prefix not in prefixes]

    @property
    def layers(self) -> int:
        """Number of layers of the main stack, 0 where there is none."""
        return self.main_stack.count if self.main_stack else 0

    @property
    def kind(self) -> str | None:
        """`model_type` of config.json."""
        kind = (self.config or {}).get("model_type")
        return kind if isinstance(kind, str) else None

    @property
    def tie_word_embeddings(self) -> bool | None:
        """What config.json says about tied embeddings; None where it says nothing."""
        for section in config_sections(self.config):
            tied = section.get("tie_word_embeddings")
            if isinstance(tied, bool):
                return tied
        return None

    @property
    def quantization_config(self) -> dict[str, Any] | None:
        """`quantization_config` of config.json, of a nested configuration too."""
        for section in config_sections(self.config):
            found = section.get("quantization_config") or section.get("compression_config")
            if isinstance(found, dict):
                return found
        return None

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(t.nbytes for t in self.tensors.values())

    def file_of(self, name: str) -> str:
        """Path of the file that holds a tensor."""
        return self.files[self.tensors[name].file].path


def read_checkpoint(path: Path, ref: str, revision: str | None = None) -> Checkpoint:
    """Index a folder, one .safetensors file, or an index file.

    Raises
    ------
    FormatError
        A malformed file, a tensor that two files hold, an index that does not agree with its shards.
    """
    path = path.absolute()
    if path.is_dir():
        folder, chosen = path, folder_files(path)
    elif path.name.endswith(".safetensors.index.json"):
        folder, chosen = path.parent, files_of_index(path)
    elif path.suffix == ".safetensors":
        folder, chosen = path.parent, FolderFiles([path])
    else:
        raise FormatError(f"{path}: not a .safetensors file; give a model folder or a .safetensors file")
    records, tensors = _read_files(chosen.files)
    notes = [*chosen.notes, *_check_index(chosen, records, tensors)]
    return Checkpoint(ref, folder, records, tensors, _read_config(folder), revision, notes)


def _read_files(paths: list[Path]) -> tuple[list[FileRecord], dict[str, StoredTensor]]:
    records: list[FileRecord] = []
    tensors: dict[str, StoredTensor] = {}
    for number, path in enumerate(paths):
        record, held = read_file(path, number)
        twice = tensors.keys() & held.keys()
        if twice:
            name = min(twice)
            first = records[tensors[name].file].path
            raise FormatError(
                f"{path}: tensor {name!r} is in {first} too; remove the file that does not belong"
            )
        records.append(record)
        tensors.update(held)
    return records, tensors


def _check_index(
    chosen: FolderFiles, records: list[FileRecord], tensors: dict[str, StoredTensor]
) -> list[str]:
    if chosen.index is None:
        return []
    names = [Path(record.path).name for record in records]
    for tensor, file in chosen.weight_map.items():
        held = tensors.get(tensor)
        if held is None or names[held.file] != file:
            where = f"; it is in {names[held.file]}" if held else ""
            raise FormatError(f"{chosen.index}: says that {file} holds {tensor!r}, which it does not{where}")
    unlisted = [name for name in tensors if name not in chosen.weight_map]
    if not unlisted:
        return []
    return [
        f"{chosen.index}: does not list {len(unlisted)} tensors that its files hold ({unlisted[0]}, …); "
        f"they count"
    ]


def _read_config(folder: Path) -> dict[str, Any] | None:
    path = folder / "config.json"
    if not path.exists():
        return None
    config = read_json(path)
    if not isinstance(config, dict):
        raise FormatError(f"{path}: is not a JSON object")
    return config
