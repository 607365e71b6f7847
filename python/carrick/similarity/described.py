"""Tensors of models with adapters, as rows in float64: what the core computes while it reads, here for comparisons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from carrick.checkpoints import numpy_dtype
from carrick.errors import FormatError
from carrick.plan.description import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carrick.checkpoints import FileRecord
    from carrick.plan.description import Description, Factor, Product

    Array = NDArray[np.float64]

_RETRAIN = "train the adapter again"
_EXCLUDE = "leave the tensor out with --exclude"


class Rows(Protocol):
    """A matrix that is read by rows."""

    def read(self, begin: int, end: int) -> NDArray[np.generic]:
        """Return the rows [begin, end): as they are stored, or in float64 where they are computed."""


def rows_of(
    source: Place | Description, shape: tuple[int, int], files: Sequence[FileRecord], name: str
) -> Rows:
    """Return the reader of a job's input; `name` is the tensor's, for messages."""
    if isinstance(source, Place):
        return StoredRows(source, shape, files, name)
    return DescribedRows(source, files, name)


class StoredRows:
    """A matrix that a file holds."""

    def __init__(
        self,
        place: Place,
        shape: tuple[int, int],
        files: Sequence[FileRecord],
        name: str,
        remedy: str = _EXCLUDE,
    ) -> None:
        self._record = files[place.file]
        self._start = self._record.data_start + place.offset
        self._dtype = numpy_dtype(place.dtype)
        self._columns = shape[1]
        self._name = name
        self._remedy = remedy

    def read(self, begin: int, end: int) -> NDArray[np.generic]:
        """Return rows; NaN and infinities are refused.

        Raises
        ------
        FormatError
            Names the file, the tensor and the element.
        """
        first, elements = begin * self._columns, (end - begin) * self._columns
        offset = self._start + first * self._dtype.itemsize
        stored = np.fromfile(self._record.path, np.uint8, elements * self._dtype.itemsize, offset=offset)
        if stored.size != elements * self._dtype.itemsize:
            raise FormatError(f'{self._record.path}: tensor "{self._name}" ends too early; restore the file')
        values = stored.view(self._dtype)
        finite = np.isfinite(values.astype(np.float64))
        if not finite.all():
            element = first + int(np.argmin(finite))
            raise FormatError(
                f'{self._record.path}: tensor "{self._name}" has a NaN or an infinity at element {element}; '
                f"{self._remedy}"
            )
        return values.reshape(end - begin, self._columns)


class DescribedRows:
    """A matrix that adapters make of a stored one: Σ blocks + Σ scale·left·right, then rows replaced and normed."""

    def __init__(self, described: Description, files: Sequence[FileRecord], name: str) -> None:
        self._described = described
        size = described.rows, described.columns
        self._blocks = [(StoredRows(b.place, (b.rows, b.columns), files, name), b) for b in described.blocks]
        self._products = [_ProductRows(p, size, files, name) for p in described.products]
        new, norms = described.replaced, described.magnitude
        self._new: Array | None = None
        self._norms: Array | None = None
        if new is not None:
            self._new = _whole(new.place, (len(new.rows), described.columns), files, name)
        if norms is not None:
            self._norms = _whole(norms, (described.rows, 1), files, name)

    def read(self, begin: int, end: int) -> Array:
        """Compute rows."""
        rows = np.zeros((end - begin, self._described.columns))
        for held, block in self._blocks:
            top, bottom = max(begin, block.row), min(end, block.row + block.rows)
            if top < bottom:
                part = rows[top - begin : bottom - begin, block.column : block.column + block.columns]
                part += block.scale * held.read(top - block.row, bottom - block.row).astype(np.float64)
        for product in self._products:
            rows += product.read(begin, end)
        replaced = self._described.replaced
        if replaced is not None and self._new is not None:
            for place, row in enumerate(replaced.rows):
                if begin <= row < end:
                    rows[row - begin] += replaced.scale * (self._new[place] - rows[row - begin])
        if self._norms is not None:
            norms = np.linalg.norm(rows, axis=1, keepdims=True)
            rows *= np.divide(self._norms[begin:end], norms, out=np.ones_like(norms), where=norms > 0)
        return rows


class _ProductRows:
    """scale · left · right, the factors as they are stored; `right` is held in float64."""

    def __init__(
        self, product: Product, size: tuple[int, int], files: Sequence[FileRecord], name: str
    ) -> None:
        rows, columns = size
        self._left = _factor(product.left, (rows, product.rank), files, name)
        self._right = _factor(product.right, (product.rank, columns), files, name).astype(np.float64)
        self._scale = product.scale

    def read(self, begin: int, end: int) -> Array:
        found: Array = self._scale * (self._left[begin:end].astype(np.float64) @ self._right)
        return found


def _factor(
    factor: Factor, shape: tuple[int, int], files: Sequence[FileRecord], name: str
) -> NDArray[np.generic]:
    stored = shape[::-1] if factor.transposed else shape
    held = StoredRows(factor.place, stored, files, name, _RETRAIN).read(0, stored[0])
    return held.T if factor.transposed else held


def _whole(place: Place, shape: tuple[int, int], files: Sequence[FileRecord], name: str) -> Array:
    return StoredRows(place, shape, files, name, _RETRAIN).read(0, shape[0]).astype(np.float64)
