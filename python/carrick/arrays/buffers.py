"""NumPy arrays and torch CPU tensors as bytes, without copies."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from carrick.checkpoints.element_types import ELEMENT_TYPES
from carrick.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

Array = Any
"""A NumPy array (ml_dtypes' types included) or a torch tensor on the CPU."""

_NAMES = {
    element.numpy: name
    for name, element in ELEMENT_TYPES.items()
    if element.numpy and element.kind == "float"
}


class Buffer(NamedTuple):
    """The bytes of an array and what they mean."""

    bytes: npt.NDArray[np.uint8]
    dtype: str
    shape: tuple[int, ...]


class Output(NamedTuple):
    """A new array like another one, and its bytes to be written."""

    array: Array
    bytes: npt.NDArray[np.uint8]


def _torch() -> Any:
    """Torch, if the caller has it loaded: no array of anybody else's can be a tensor."""
    return sys.modules.get("torch")


def _is_tensor(array: Array) -> bool:
    torch = _torch()
    return torch is not None and isinstance(array, torch.Tensor)


def _tensor_bytes(tensor: Any) -> npt.NDArray[np.uint8]:
    torch = _torch()
    if tensor.numel() == 0:
        return np.empty(0, np.uint8)
    view: npt.NDArray[np.uint8] = tensor.reshape(-1).view(torch.uint8).numpy()
    return view


def read(array: Array, what: str) -> Buffer:
    """Return the bytes of `array`; only one that is not contiguous is copied.

    Raises
    ------
    PlanError
        `what` is not on the CPU, or its element type has no arithmetic.
    """
    if _is_tensor(array):
        if array.device.type != "cpu":
            raise PlanError(f"{what} is on {array.device}; arrays are merged on the CPU: pass `tensor.cpu()`")
        name = _NAMES.get(str(array.dtype).removeprefix("torch."))
        bytes_of: Callable[[], npt.NDArray[np.uint8]] = lambda: _tensor_bytes(array.detach().contiguous())  # noqa: E731
    else:
        array = np.asarray(array)
        name = _NAMES.get(array.dtype.name) if array.dtype.isnative else None
        bytes_of = lambda: np.ascontiguousarray(array).reshape(-1).view(np.uint8)  # noqa: E731
    if name is None:
        raise PlanError(
            f"{what} has the element type {array.dtype}; merged are {', '.join(sorted(_NAMES.values()))}"
        )
    return Buffer(bytes_of(), name, tuple(array.shape))


def empty_like(array: Array) -> Output:
    """Return a new contiguous array of the type, element type and shape of `array`."""
    if _is_tensor(array):
        # NumPy asks for large pages. Fresh memory in small ones takes as long to fault in as a step to compute.
        raw = np.empty(array.numel() * array.element_size(), np.uint8)
        return Output(_torch().from_numpy(raw).view(array.dtype).reshape(tuple(array.shape)), raw)
    array = np.asarray(array)
    made = np.empty(array.shape, array.dtype)
    return Output(made, made.reshape(-1).view(np.uint8))
