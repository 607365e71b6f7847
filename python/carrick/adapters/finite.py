"""NaN and infinities in adapters: refused where tensors are read, and traced to their file where the core met them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from carrick.checkpoints import is_float
from carrick.errors import CarrickError, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from carrick.adapters.adapter import Adapter
    from carrick.checkpoints import StoredTensor

# Elements that are looked at together.
_BLOCK = 2 << 20
_WORDS = ("NaN", "infinit")


@contextmanager
def naming_adapter(adapters: Callable[[], Iterable[Adapter]]) -> Iterator[None]:
    """Say of an error about NaN or infinities which adapter's tensor they are in.

    The core names the tensor of the base or of the result that it was about to compute, of which several adapters
    may have a part.

    Parameters
    ----------
    adapters
        Those that are read, opened when they are needed.
    """
    try:
        yield
    except CarrickError as error:
        if any(word in str(error) for word in _WORDS):
            try:
                for adapter in adapters():
                    for key, tensor in adapter.checkpoint.tensors.items():
                        if is_float(tensor.dtype):
                            read_finite(adapter, tensor, key)
            except FormatError as named:
                raise named from error
        raise


def read_finite(adapter: Adapter, tensor: StoredTensor, name: str) -> NDArray[np.generic]:
    """Read a tensor of an adapter as a flat array of its own type; NaN and infinities are refused.

    Raises
    ------
    FormatError
        They are there, or the file ends too early.
    """
    import numpy as np  # noqa: PLC0415  (merges do without, while nothing is wrong)

    from carrick.checkpoints import numpy_dtype  # noqa: PLC0415

    record = adapter.files[tensor.file]
    found = np.fromfile(record.path, np.uint8, tensor.nbytes, offset=record.data_start + tensor.begin)
    if found.size != tensor.nbytes:
        raise FormatError(f"{record.path}: tensor {name!r} ends too early; restore the file")
    values: NDArray[np.generic] = found.view(numpy_dtype(tensor.dtype))
    for start in range(0, len(values), _BLOCK):
        if not np.isfinite(values[start : start + _BLOCK].astype(np.float64)).all():
            raise FormatError(
                f"{record.path}: tensor {name!r} holds NaN or infinities; train the adapter again"
            )
    return values
