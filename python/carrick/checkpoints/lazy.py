"""`carrick.open`: a checkpoint's tensors as NumPy arrays that are read when they are touched."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.element_types import numpy_dtype
from carrick.checkpoints.find import find

if TYPE_CHECKING:
    from types import TracebackType

    import numpy as np
    from numpy.typing import NDArray

    from carrick.checkpoints.checkpoint import Checkpoint


class LazyTensors(Mapping[str, "NDArray[Any]"]):
    """Tensor name to a read-only array mapped from the file: no copy, nothing read before it is used.

    bfloat16 and float8 come as ml_dtypes' types. Arrays stay valid after `close()`; the files are unmapped
    when the last of them is gone. A mapped file must not shrink while it is used: the operating system ends
    the process then.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._maps: dict[int, mmap.mmap] = {}
        self._closed = False

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Array of a tensor's own shape and element type."""
        tensor = self.checkpoint.tensors[name]
        dtype = numpy_dtype(tensor.dtype)
        return (
            self.raw(name).view(dtype).reshape(tensor.shape) if tensor.nbytes else _empty(dtype, tensor.shape)
        )

    def raw(self, name: str) -> NDArray[np.uint8]:
        """Bytes of a tensor as they are in the file, packed types too."""
        import numpy as np  # noqa: PLC0415

        tensor = self.checkpoint.tensors[name]
        if tensor.nbytes == 0:
            return np.empty(0, np.uint8)
        start = self.checkpoint.files[tensor.file].data_start + tensor.begin
        return np.frombuffer(self._map(tensor.file), np.uint8, tensor.nbytes, start)

    def __iter__(self) -> Iterator[str]:
        return iter(self.checkpoint.tensors)

    def __len__(self) -> int:
        return len(self.checkpoint.tensors)

    def __contains__(self, name: object) -> bool:
        return name in self.checkpoint.tensors

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, from the headers alone."""
        return {name: t.shape for name, t in self.checkpoint.tensors.items()}

    @property
    def dtypes(self) -> dict[str, str]:
        """Element type of every tensor, spelled as in the file (`BF16`)."""
        return {name: t.dtype for name, t in self.checkpoint.tensors.items()}

    def close(self) -> None:
        """Let go of the files; arrays already taken stay valid."""
        self._closed = True
        self._maps.clear()

    def __enter__(self) -> LazyTensors:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _map(self, number: int) -> mmap.mmap:
        if self._closed:
            raise ValueError(f"{self.checkpoint.ref}: is closed; open it again")
        mapped = self._maps.get(number)
        if mapped is None:
            with Path(self.checkpoint.files[number].path).open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._maps[number] = mapped
        return mapped


def open_checkpoint(ref: str | Path, revision: str | None = None, *, download: bool = False) -> LazyTensors:
    """Open a checkpoint as a mapping of tensor names to NumPy arrays.

    Parameters
    ----------
    ref, revision, download
        As for `carrick.checkpoints.find`.

    Raises
    ------
    carrick.errors.FormatError
        The files are no checkpoint, or malformed.

    Examples
    --------
    >>> import carrick, numpy, pathlib, safetensors.numpy, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> safetensors.numpy.save_file({"w": numpy.arange(6, dtype="float32").reshape(2, 3)}, path)
    >>> with open_checkpoint(path) as tensors:
    ...     print(tensors.shapes, tensors["w"][1])
    {'w': (2, 3)} [3. 4. 5.]
    """
    return LazyTensors(find(str(ref), revision, download=download))


def _empty(dtype: np.dtype, shape: tuple[int, ...]) -> NDArray[Any]:
    import numpy as np  # noqa: PLC0415

    return np.empty(shape, dtype)
