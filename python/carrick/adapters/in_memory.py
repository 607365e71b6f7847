"""Adapters that are in memory: PEFT state dicts on their way in, and the merged one on its way out."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from carrick.adapters.folder import WEIGHTS
from carrick.errors import ConfigError
from carrick.home import absolute

if TYPE_CHECKING:
    from contextlib import ExitStack

    from carrick.adapters.merging.run import AdapterReport


# What to call the adapters in memory whose folders there are: a temporary path says nothing.
_CALLED: dict[str, str] = {}


class LiveConfig(Protocol):
    """A `peft.LoraConfig`."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""


StateDict = tuple[Mapping[str, Any], Mapping[str, Any] | LiveConfig]
"""A PEFT state dict (NumPy arrays or torch CPU tensors by their keys) and its adapter_config.json as a mapping, or a
`peft.LoraConfig`."""


def is_state_dict(adapter: object) -> TypeGuard[StateDict]:
    """Whether something is an adapter in memory, rather than a path or two references in a tuple.

    Examples
    --------
    >>> is_state_dict(({}, {"peft_type": "LORA"})), is_state_dict(({"path": "en"}, {"path": "de"}))
    (True, False)
    """
    if not (isinstance(adapter, tuple) and len(adapter) == 2 and isinstance(adapter[0], Mapping)):
        return False
    tensors, config = adapter
    return "path" not in tensors and (isinstance(config, Mapping) or hasattr(config, "to_dict"))


def as_folders(
    adapters: Iterable[str | Path | StateDict], stack: ExitStack, *, what: str = "adapter"
) -> list[str]:
    """Return a folder or Hub id for each adapter; those in memory are written to temporary ones.

    Raises
    ------
    ConfigError
        An entry is neither a path nor a state dict with its configuration, or the list is no list.
    """
    if isinstance(adapters, str | Path):
        raise ConfigError(f"{adapters} is one {what}; give a list of them")
    if not isinstance(adapters, Iterable):
        raise ConfigError(f"the {what}s are {_kind(adapters)}; give a list of them")
    return [as_folder(one, f"{what} {number}", stack) for number, one in enumerate(adapters, 1)]


def as_folder(adapter: object, what: str, stack: ExitStack) -> str:
    """Return the folder or Hub id of an adapter, which is written to a temporary one where it is in memory.

    Raises
    ------
    ConfigError
        It is neither a path nor a state dict with its configuration; its tensors are in no message.
    """
    if isinstance(adapter, str | Path):
        return str(adapter)
    if not is_state_dict(adapter):
        raise ConfigError(
            f"{what} is {_kind(adapter)}; give a path, a Hub id, or a pair of a state dict and its configuration"
        )
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="carrick-"))
    folder = Path(scratch, what.replace(" ", "-"))
    folder.mkdir()
    _CALLED[str(folder)] = what
    stack.callback(_CALLED.pop, str(folder))
    tensors, config = adapter
    _write(folder, tensors, config if isinstance(config, Mapping) else config.to_dict(), what=what)
    return str(folder)


def called(path: str) -> str:
    """Return what the user knows an adapter by: its path, or the number of one in memory."""
    return _CALLED.get(path, path)


def _kind(value: object) -> str:
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(type(one).__name__ for one in value)})"
    return type(value).__name__


def target_of(out: str | Path | None, stack: ExitStack) -> Path:
    """Return the output folder: a temporary one where the result is to stay in memory."""
    if out is not None:
        return absolute(out)
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="carrick-")), "merged")


def take_into_memory(report: AdapterReport) -> None:
    """Read the tensors of a result in a temporary folder, which goes away."""
    report.state_dict, report.out = read_tensors(report.out / WEIGHTS), Path()


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


def _plain(value: Any) -> Any:
    """Turn sets and enumerations, which a live LoraConfig has, into what JSON has."""
    if isinstance(value, Mapping):
        return {_plain(key): _plain(one) for key, one in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.value if isinstance(value, Enum) else value


def read_tensors(file: Path) -> dict[str, Any]:
    """Return the tensors of a safetensors file as arrays of their own."""
    from carrick.checkpoints import open_checkpoint  # noqa: PLC0415  (NumPy is imported here)

    with open_checkpoint(file) as tensors:
        return {name: array.copy() for name, array in tensors.items()}
