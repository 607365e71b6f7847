"""A safetensors file that grows while its factors are made: the header comes last, into room left for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from carrick.checkpoints.headers import read_file

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray

    from carrick.checkpoints import FileRecord

# Room for one tensor's entry of the header: its number, shape and offsets, each at their longest.
_ENTRY = 160
_TYPES = {"float32": "F32", "float64": "F64"}


class FactorsFile:
    """Context manager of a file of at most `tensors` matrices.

    Attributes
    ----------
    record
        The finished file, once the context is left.

    Examples
    --------
    >>> import numpy as np, pathlib, safetensors.numpy, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "some.factors")
    >>> with FactorsFile(path, 2) as file:
    ...     file.add(np.ones((1, 2), np.float32)), file.add(np.zeros((2, 1), np.float32))
    ((0, 'F32'), (8, 'F32'))
    >>> safetensors.numpy.load_file(path)["0"].tolist()
    [[1.0, 1.0]]
    """

    record: FileRecord

    def __init__(self, path: Path, tensors: int) -> None:
        self._path = path
        self._room = 64 + _ENTRY * tensors
        self._header: dict[str, Any] = {}
        self._end = 0

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        self._file.seek(8 + self._room)
        return self

    def add(self, matrix: NDArray[Any]) -> tuple[int, str]:
        """Append a matrix; return its offset in the data and its element type."""
        begin, dtype = self._end, _TYPES[matrix.dtype.name]
        self._end += matrix.nbytes
        entry = {"dtype": dtype, "shape": list(matrix.shape), "data_offsets": [begin, self._end]}
        self._header[str(len(self._header))] = entry
        self._file.write(matrix.tobytes())
        return begin, dtype

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as file:
            file.seek(0)
            file.write(self._room.to_bytes(8, "little") + json.dumps(self._header).encode().ljust(self._room))
        if kind is None:
            self.record, _ = read_file(self._path, 0)
