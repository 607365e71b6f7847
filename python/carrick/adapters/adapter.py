"""A LoRA adapter as its headers describe it: modules, what was trained beside them, configuration; no weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.adapters.config import AdapterConfig, read_config
from carrick.adapters.folder import find_adapter
from carrick.adapters.module import LoraModule, TrainableTokens
from carrick.adapters.sort import sort_tensors
from carrick.checkpoints import read_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.checkpoints import Checkpoint, FileRecord, StoredTensor

__all__ = ["Adapter", "LoraModule", "TrainableTokens", "read_adapter"]


@dataclass
class Adapter:
    """An adapter's files: what it changes and where the numbers lie.

    Attributes
    ----------
    ref
        As it was asked for.
    folder
        Where adapter_config.json is.
    checkpoint
        The tensors as stored, by key; `carrick.checkpoints.LazyTensors` reads them.
    config
        adapter_config.json.
    modules
        LoRA modules by path, in file order.
    saved
        Tensors that replace the base's, by the base's names: modules_to_save and whole embeddings.
    carried
        Names in `saved` that were not trained: weights of the base that PEFT stores beside LoRA on embeddings,
        which matter where the vocabulary was resized. ΔW comes on top of them.
    biases
        Biases of the base that were trained too (`bias: all` and `lora_only`), by the base's names.
    tokens
        Replaced rows of embeddings, by the module's path.
    keys
        The key in the file of everything in `saved`, `biases`, `tokens` (by the same names), of biases of B
        (`PATH.lora_B.bias`) and of magnitudes (`PATH.lora_magnitude_vector`).
    revision
        The commit of a Hub snapshot, or None.
    notes
        What a user should know.
    """

    ref: str
    folder: Path
    checkpoint: Checkpoint
    config: AdapterConfig
    modules: dict[str, LoraModule]
    saved: dict[str, StoredTensor] = field(default_factory=dict)
    carried: set[str] = field(default_factory=set)
    biases: dict[str, StoredTensor] = field(default_factory=dict)
    tokens: dict[str, TrainableTokens] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    revision: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[FileRecord]:
        """The safetensors files, which `StoredTensor.file` counts."""
        return self.checkpoint.files


def read_adapter(
    ref: str | Path, *, name: str | None = None, revision: str | None = None, download: bool = False
) -> Adapter:
    """Read an adapter's configuration and headers; no weights.

    Parameters
    ----------
    ref
        A PEFT folder, or a Hub id (`org/name`) that is in the local cache.
    name
        Which one, where a folder holds several in sub-folders.
    revision
        Branch, tag or commit of a Hub id.
    download
        Fetch a Hub id that is not in the cache.

    Raises
    ------
    carrick.errors.FormatError
        No adapter there, a pickle, a malformed file, a variant of LoRA that is not supported, or tensors that
        do not agree with the configuration.

    Examples
    --------
    >>> from carrick.adapters.example import write_example
    >>> _, folder = write_example()
    >>> module = read_adapter(folder).modules["h.0.q"]
    >>> module.rank, module.scale, module.out_features, module.in_features
    (1, 2.0, 2, 3)
    """
    files = find_adapter(str(ref), name, revision, download=download)
    config = read_config(files.config)
    checkpoint = read_checkpoint(files.weights, str(ref), files.revision)
    adapter = as_adapter(checkpoint, config, files.folder)
    if config.unknown:
        adapter.notes.append(
            f"{files.config}: has keys that are not known ({', '.join(config.unknown)}); if a newer PEFT gave "
            "them a meaning for the weights, the result is wrong"
        )
    return adapter


def as_adapter(checkpoint: Checkpoint, config: AdapterConfig, folder: Path) -> Adapter:
    """Sort the tensors of an adapter's files, or of those that it will have.

    Raises
    ------
    carrick.errors.FormatError
        Tensors that do not agree with the configuration.
    """
    found = sort_tensors(checkpoint, config)
    return Adapter(
        checkpoint.ref,
        folder,
        checkpoint,
        config,
        found.modules,
        found.saved,
        found.carried,
        found.biases,
        found.tokens,
        found.keys,
        checkpoint.revision,
        [*checkpoint.notes, *found.notes],
    )
