"""Which safetensors files a model folder consists of; an index is believed as far as it can be checked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carrick.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_SHARD_NAME = re.compile(r"^(?P<stem>.*)-(?P<number>\d{5})-of-(?P<total>\d{5})\.safetensors$")
_JSON_LIMIT = 256 * 2**20  # an index of a million tensors takes about 100 MB


@dataclass(slots=True)
class FolderFiles:
    """The files that make up a model, and what the index promises about them."""

    files: list[Path]
    weight_map: dict[str, str] = field(default_factory=dict)  # tensor -> file name, empty without an index
    index: Path | None = None
    notes: list[str] = field(default_factory=list)


def folder_files(folder: Path) -> FolderFiles:
    """List the safetensors files of a model folder.

    `model.safetensors` comes first, then the index, then a single other index (as diffusers writes it), then
    every loose file.

    Raises
    ------
    FormatError
        Nothing that can be loaded: only pickles, only GGUF, only an adapter, an index that names a missing
        file or one outside the folder, or an incomplete set of shards.
    """
    present = sorted(p for p in folder.iterdir() if p.name.endswith(".safetensors") and not p.is_dir())
    index = _find_index(folder)
    if (folder / SINGLE).exists() and (index is None or index.name == INDEX):
        chosen = FolderFiles([folder / SINGLE])
        if index is not None:
            chosen.notes.append(
                f"{folder}: {SINGLE} and {INDEX} are both there; {SINGLE} is read, as transformers does"
            )
    elif index is not None:
        chosen = _from_index(index)
    else:
        chosen = _loose(folder, [p for p in present if not p.name.startswith("adapter_model")])
    used = {p.name for p in chosen.files}
    ignored = [p.name for p in present if p.name not in used]
    if ignored:
        named = ", ".join(ignored[:4]) + (f" and {len(ignored) - 4} more" if len(ignored) > 4 else "")
        chosen.notes.append(f"{folder}: not part of the model and not read: {named}")
    return chosen


def read_json(path: Path) -> Any:
    """Read a JSON file that may be hostile: a size limit, no duplicate keys, no endless nesting."""
    try:
        if path.stat().st_size > _JSON_LIMIT:
            raise FormatError(
                f"{path}: larger than {_JSON_LIMIT >> 20} MiB, which no JSON file of a model is"
            )
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unique)
    except FormatError as error:
        raise FormatError(
            f"{path}: {error}" if not str(error).startswith(str(path)) else str(error)
        ) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FormatError(f"{path}: not valid JSON ({reason})") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror})") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise FormatError(f"the key {twice!r} occurs twice")
    return mapping


def _find_index(folder: Path) -> Path | None:
    if (folder / INDEX).exists():
        return folder / INDEX
    found = sorted(folder.glob("*.safetensors.index.json"))
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise FormatError(f"{folder}: several indexes ({names}); give the path of the one that is meant")
    return found[0] if found else None


def files_of_index(index: Path) -> FolderFiles:
    """List the files that an index (`*.safetensors.index.json`) names, each checked to lie in its folder."""
    return _from_index(index)


def _from_index(index: Path) -> FolderFiles:
    content = read_json(index)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{index}: has no `weight_map` of tensor names to file names")
    for tensor, name in weight_map.items():
        if not isinstance(name, str):
            raise FormatError(f"{index}: the file of tensor {tensor!r} is {name!r}, not a file name")
    names = sorted(set(weight_map.values()))
    for name in names:
        _check_entry(index, name)
    return FolderFiles([index.parent / name for name in names], weight_map, index)


def _check_entry(index: Path, name: str) -> None:
    # Plain names only: what a name in the folder links to is the owner's business (the Hub cache links to
    # its blobs), but an index comes with the download and must not choose files elsewhere.
    if not name or name in {".", ".."} or "/" in name or "\\" in name or "\0" in name:
        raise FormatError(
            f"{index}: names the file {name!r}, which is not a plain file name in its own folder"
        )
    if not name.endswith(".safetensors"):
        raise FormatError(
            f"{index}: names {name!r}, which is not a .safetensors file; convert the model first"
        )
    if not (index.parent / name).exists():
        raise FormatError(f"{index}: names {name!r}, which is not in the folder; the download is incomplete")


def _loose(folder: Path, files: list[Path]) -> FolderFiles:
    if not files:
        raise FormatError(_why_nothing(folder))
    sets: dict[tuple[str, str], set[int]] = {}
    for path in files:
        if match := _SHARD_NAME.match(path.name):
            sets.setdefault((match["stem"], match["total"]), set()).add(int(match["number"]))
    for (stem, total), numbers in sets.items():
        missing = next((n for n in range(1, int(total) + 1) if n not in numbers), None)
        if missing is not None:
            raise FormatError(
                f"{folder}: {stem}-{missing:05d}-of-{total}.safetensors is missing; complete the download"
            )
    return FolderFiles(files)


def _why_nothing(folder: Path) -> str:
    names = sorted(p.name for p in folder.iterdir())
    if any(n.startswith("adapter_model") or n == "adapter_config.json" for n in names):
        return (
            f"{folder}: holds an adapter, not a whole model; `carrick adapters inspect` shows it, "
            f"`carrick adapters merge` merges it with others, and merges of models take it on its base "
            f"(`base+{folder.name}`)"
        )
    if pickles := [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]:
        return (
            f"{folder}: has only pickles ({pickles[0]}), which are never loaded because they can run code; "
            f"convert them "
            "with transformers: from_pretrained(FOLDER).save_pretrained(NEW_FOLDER, safe_serialization=True)"
        )
    if gguf := [n for n in names if n.endswith(".gguf")]:
        return (
            f"{folder}: has only GGUF ({gguf[0]}), which is not supported; use the model's safetensors files"
        )
    return f"{folder}: has no .safetensors file; give the folder that holds the model's weights"
