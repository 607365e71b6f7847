"""Adapters that are in memory: PEFT state dicts on their way in, and the merged one on its way out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import ExitStack

StateDict = tuple[Mapping[str, Any], Mapping[str, Any]]
"""A PEFT state dict (NumPy arrays or torch CPU tensors by their keys) and its adapter_config.json as a mapping."""


def as_folders(adapters: Iterable[str | Path | StateDict], stack: ExitStack) -> list[str]:
    """Return a folder or Hub id for each adapter; those in memory are written to temporary ones.

    Raises
    ------
    ConfigError
        An entry is neither a path nor a state dict with its configuration, or the list is no list.
    """
    if isinstance(adapters, str | Path):
        raise ConfigError(f"{adapters} is one adapter; give a list of them")
    folders = []
    for number, adapter in enumerate(adapters, 1):
        if isinstance(adapter, str | Path):
            folders.append(str(adapter))
            continue
        if not (
            isinstance(adapter, tuple) and len(adapter) == 2 and all(isinstance(x, Mapping) for x in adapter)
        ):
            raise ConfigError(
                f"adapter {number} is {type(adapter).__name__}; give a path, a Hub id, or a pair of a state dict and "
                "its configuration"
            )
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="carrick-")), f"adapter-{number}"
        )
        folder.mkdir()
        _write(folder, *adapter, what=f"adapter {number}")
        folders.append(str(folder))
    return folders


def _write(folder: Path, tensors: Mapping[str, Any], config: Mapping[str, Any], *, what: str) -> None:
    write_tensors(folder / "adapter_model.safetensors", tensors, of=f" of {what}")
    try:
        text = json.dumps(_plain(config))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"the configuration of {what} is not what JSON can hold: {error}") from None
    (folder / "adapter_config.json").write_text(text, encoding="utf-8")


def write_tensors(path: Path, tensors: Mapping[str, Any], *, of: str = "") -> None:
    """Write arrays or tensors to a safetensors file, in their order.

    Raises
    ------
    PlanError
        One is not on the CPU, or its element type has no arithmetic; `of` says whose it is.
    """
    from carrick.arrays.buffers import read  # noqa: PLC0415  (NumPy, which files do not need)

    buffers = {name: read(tensor, f"{name}{of}") for name, tensor in tensors.items()}
    header: dict[str, Any] = {}
    offset = 0
    for name, buffer in buffers.items():
        end = offset + buffer.bytes.nbytes
        header[name] = {"dtype": buffer.dtype, "shape": list(buffer.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for buffer in buffers.values():
            file.write(buffer.bytes.data)


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn sets and enumerations, which a live LoraConfig has, into what JSON has."""
    return {
        key: sorted(value) if isinstance(value, set | frozenset) else getattr(value, "value", value)
        for key, value in config.items()
    }


def read_tensors(file: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file as arrays of their own."""
    from carrick.checkpoints import open_checkpoint  # noqa: PLC0415  (NumPy is imported here)

    with open_checkpoint(file) as tensors:
        return {name: array.copy() for name, array in tensors.items()}
