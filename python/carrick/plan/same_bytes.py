"""Whether two stored tensors are the same, byte for byte or as numbers; read in small pieces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from carrick import _core
from carrick.checkpoints.element_types import is_float

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import StoredTensor

_CHUNK = 1 << 20
_SAMPLE = 1 << 16
_SAMPLES = 16


def same_bytes(
    checkpoint: Checkpoint,
    tensor: StoredTensor,
    other_checkpoint: Checkpoint,
    other: StoredTensor,
    *,
    sample: bool = False,
) -> bool | None:
    """Compare a tensor with another one's bytes; it ends at the first piece that differs.

    Parameters
    ----------
    checkpoint, tensor
        The one.
    other_checkpoint, other
        The other one.
    sample
        Read no more than a MiB of each, evenly spread, first and last bytes among it.

    Returns
    -------
    None where one of the two is the result of another document, which is still to be made.
    """
    if (tensor.dtype, tensor.nbytes) != (other.dtype, other.nbytes):
        return False
    records = (checkpoint.files[tensor.file], other_checkpoint.files[other.file])
    if not all(Path(record.path).exists() for record in records):
        return None
    starts = (records[0].data_start + tensor.begin, records[1].data_start + other.begin)
    with Path(records[0].path).open("rb", 0) as file, Path(records[1].path).open("rb", 0) as other_file:
        for begin, end in _samples(tensor.nbytes) if sample else _all(tensor.nbytes):
            file.seek(starts[0] + begin)
            other_file.seek(starts[1] + begin)
            piece = file.read(end - begin)
            if not piece or piece != other_file.read(end - begin):
                return False
    return True


def same_values(
    checkpoint: Checkpoint, tensor: StoredTensor, other_checkpoint: Checkpoint, other: StoredTensor
) -> bool | None:
    """Compare a tensor's numbers with another one's, of whatever floating-point type; else as `same_bytes`."""
    if tensor.dtype == other.dtype or not (is_float(tensor.dtype) and is_float(other.dtype)):
        return same_bytes(checkpoint, tensor, other_checkpoint, other)
    if tensor.shape != other.shape:
        return False
    paths = (checkpoint.files[tensor.file].path, other_checkpoint.files[other.file].path)
    if not all(Path(path).exists() for path in paths):
        return None
    places = (paths[0], tensor.begin, tensor.dtype, paths[1], other.begin, other.dtype)
    found = json.loads(_core.compare(*places, tensor.elements))
    return bool(found["max_abs"] == 0 == found["nan"])  # an infinite distance is null in JSON


def _all(size: int) -> Iterable[tuple[int, int]]:
    return ((begin, min(begin + _CHUNK, size)) for begin in range(0, size, _CHUNK))


def _samples(size: int) -> Iterable[tuple[int, int]]:
    if size <= _SAMPLES * _SAMPLE:
        return _all(size)
    last = size - _SAMPLE
    begins = (last * number // (_SAMPLES - 1) for number in range(_SAMPLES))
    return ((begin, begin + _SAMPLE) for begin in begins)
