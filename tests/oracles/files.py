"""safetensors files, written and read by hand: the independent check of Carrick's own reader and writer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from .dtypes import NAMES, NUMPY, Array

if TYPE_CHECKING:
    from pathlib import Path


def write_file(path: Path, tensors: dict[str, Array], order: list[str] | None = None) -> None:
    """One file; tensors in `order`, without alignment between them (the format asks for none)."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    order = order or list(tensors)
    for name in order:
        array = tensors[name]
        header[name] = {
            "dtype": NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + array.nbytes],
        }
        offset += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            file.write(np.ascontiguousarray(tensors[name]).tobytes())


def write_model(
    folder: Path, tensors: dict[str, Array], *, shards: int = 1, config: dict[str, object] | None = None
) -> Path:
    """A model folder: config.json and one file, or several with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        json.dumps(config or {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    )
    names = list(tensors)
    if shards == 1:
        write_file(folder / "model.safetensors", tensors)
        return folder
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = names[shard::shards]
        write_file(folder / file, {name: tensors[name] for name in part})
        weight_map |= dict.fromkeys(part, file)
    total = sum(array.nbytes for array in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def read_file(path: Path) -> dict[str, Array]:
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        tensors[name] = np.frombuffer(data[begin:end], NUMPY[entry["dtype"]]).reshape(entry["shape"])
    return tensors


def read_model(folder: Path) -> dict[str, Array]:
    """All tensors of a model folder, by its index where there is one."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return read_file(folder / "model.safetensors")
    weight_map = json.loads(index.read_text())["weight_map"]
    parts = {file: read_file(folder / file) for file in sorted(set(weight_map.values()))}
    assert sum(len(part) for part in parts.values()) == len(weight_map), (
        "a shard holds what the index does not list"
    )
    return {name: parts[file][name] for name, file in weight_map.items()}
