"""Whether two stored tensors are the same, byte for byte; read in small pieces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import StoredTensor

_CHUNK = 1 << 20


def same_bytes(
    checkpoint: Checkpoint, tensor: StoredTensor, other_checkpoint: Checkpoint, other: StoredTensor
) -> bool:
    """Compare a tensor with another one's bytes; it ends at the first piece that differs."""
    if (tensor.dtype, tensor.nbytes) != (other.dtype, other.nbytes):
        return False
    records = (checkpoint.files[tensor.file], other_checkpoint.files[other.file])
    with Path(records[0].path).open("rb", 0) as file, Path(records[1].path).open("rb", 0) as other_file:
        file.seek(records[0].data_start + tensor.begin)
        other_file.seek(records[1].data_start + other.begin)
        left = tensor.nbytes
        while left > 0:
            piece = file.read(min(_CHUNK, left))
            if not piece or piece != other_file.read(len(piece)):
                return False
            left -= len(piece)
    return True
