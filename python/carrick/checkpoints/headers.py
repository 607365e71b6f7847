"""The header of one safetensors file, read and checked by the core."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrick.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file as it was when the plan was made; a run refuses a file that changed since."""

    path: str
    size: int
    mtime_ns: int
    inode: int
    header_hash: str
    data_start: int


@dataclass(slots=True)
class StoredTensor:
    """Where a tensor lies: file number, first and last byte of the data section, element type, shape."""

    file: int
    begin: int
    end: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.end - self.begin


def read_header(path: str) -> dict[str, Any]:
    """Read a header with the core's strict reader.

    Raises
    ------
    carrick.errors.FormatError
        Whatever is wrong with the file; the message names file, tensor and reason.
    """
    from carrick import _core  # noqa: PLC0415  (loaded when the first file is opened)

    header: dict[str, Any] = json.loads(_core.read_header(path))
    return header


def read_file(path: Path, number: int) -> tuple[FileRecord, dict[str, StoredTensor]]:
    """Read one file's record and tensors in offset order; `number` is the file's place in the checkpoint."""
    try:
        path.stat()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    header = read_header(str(path))
    record = FileRecord(
        str(path),
        header["size"],
        header["mtime_ns"],
        header["inode"],
        header["header_hash"],
        header["data_start"],
    )
    tensors = {
        t["name"]: StoredTensor(number, t["begin"], t["end"], t["dtype"], tuple(t["shape"]))
        for t in header["tensors"]
    }
    return record, tensors
