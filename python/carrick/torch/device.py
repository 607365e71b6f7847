"""The device that a merge runs on: its name, its arithmetic, its memory."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from carrick.errors import CarrickError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")

CPU_MEMORY = 1 << 30
"""Bytes that intermediate results may take on the CPU when nothing else is said (1 GiB)."""


def find_device(name: str | torch.device, also: tuple[str, ...] = ()) -> torch.device:
    """Return the device of that name.

    Parameters
    ----------
    name
        ``cpu``, ``cuda`` or ``cuda:1``.
    also
        Names that the caller takes beside these, for the message.

    Raises
    ------
    ConfigError
        No such device, or one without float64.

    Examples
    --------
    >>> find_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        known = ", ".join([*also, "cpu", "cuda", "cuda:<number>"])
        raise ConfigError(f"there is no device `{name}`; it is one of {known}") from None
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(
            f"device `{name}`: decompositions need float64, which is there on cpu and cuda; use one of them"
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise ConfigError(f"device `{name}`: torch finds no GPU (or was built without CUDA); use `cpu`")
        if device.index is None:
            return torch.device("cuda", torch.cuda.current_device())
        if device.index >= count:
            raise ConfigError(f"device `{name}`: there are {count}, from cuda:0 to cuda:{count - 1}")
    return device


def default_memory(device: torch.device) -> int:
    """Return the bytes that intermediate results may take: half of what is free on a GPU, 1 GiB on the CPU."""
    if device.type != "cuda":
        return CPU_MEMORY
    free, _total = torch.cuda.mem_get_info(device)
    return int(free // 2)


@contextmanager
def exact_arithmetic(device: torch.device) -> Iterator[None]:
    """Float32 that is float32: no TF32, no bfloat16 products, no autocast, no gradients; restored on leaving.

    Examples
    --------
    >>> torch.set_float32_matmul_precision("medium")
    >>> with exact_arithmetic(torch.device("cpu")):
    ...     print(torch.get_float32_matmul_precision())
    highest
    >>> print(torch.get_float32_matmul_precision())
    medium
    >>> torch.set_float32_matmul_precision("highest")
    """
    with torch.no_grad(), torch.autocast(device.type, enabled=False), _full_products():
        yield


@contextmanager
def _full_products() -> Iterator[None]:
    every: Any = torch.backends
    backends = [every.cuda.matmul, every.mkldnn.matmul]
    # Which setting a user chose last is known to torch alone: reading the older one may be an error.
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = None
    newer = [(backend, getattr(backend, "fp32_precision", None)) for backend in backends]
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        if older is not None:
            torch.set_float32_matmul_precision(older)
        else:
            for backend, precision in newer:
                if precision is not None:
                    backend.fp32_precision = precision


def in_batches(
    items: Sequence[Item],
    size: int,
    work: Callable[[Sequence[Item]], list[Result]],
    make_room: Callable[[], bool],
) -> Iterator[Result]:
    """Do `work` on `size` items at a time, and on half as many whenever the device's memory does not suffice.

    Parameters
    ----------
    items
        What there is to do.
    size
        Items of the first batch.
    work
        Takes a batch, returns a result for each of its items.
    make_room
        Called when memory ran out: gives back what can be made again, and says whether there was any.

    Yields
    ------
    The results, in order.

    Raises
    ------
    CarrickError
        Memory does not suffice for one item.

    Examples
    --------
    >>> list(in_batches([1, 2, 3], 2, lambda batch: [10 * item for item in batch], lambda: False))
    [10, 20, 30]
    """
    start = 0
    while start < len(items):
        batch = items[start : start + size]
        results: list[Result] | None = None
        try:
            results = work(batch)
        except torch.OutOfMemoryError as error:
            # Held by the error's frames, tensors would stay.
            reason = str(error).split("\n", 1)[0]
        if results is not None:
            start += len(batch)
            yield from results
            continue
        made = make_room()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(batch) == 1 and not made:
            raise CarrickError(
                f"{_name(batch[0])}: the device's memory does not suffice for this module alone ({reason}); "
                "free some of it, or use the CPU"
            )
        size = max(1, len(batch) // 2)


def _name(item: object) -> str:
    """Return the path of a module, or of the one in a tuple."""
    part = item[-1] if isinstance(item, tuple) else item
    return str(getattr(part, "path", part))
