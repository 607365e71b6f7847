"""Checkpoints with adapters on them: the tensors that adapters change are compared block by block, and never written.

A model that is the base itself with adapters has exactly what these add as its task vector, and nothing of it is
rounded away beside the base.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carrick.errors import PlanError
from carrick.plan.description import Description
from carrick.progress import Progress
from carrick.similarity.described import Rows, rows_of
from carrick.similarity.factors import sign_counts
from carrick.similarity.sums import PairSums

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from carrick.checkpoints import FileRecord
    from carrick.plan.lineup import Model

    Array = NDArray[np.float64]

# Bytes of a block of one model in float64.
_BLOCK = 16 << 20
_DOUBLE = np.dtype(np.float64)


def measure(
    base: Model,
    models: Sequence[Model],
    names: Sequence[str],
    files: Sequence[FileRecord],
    progress: Callable[[Progress], None] | None,
) -> dict[str, PairSums]:
    """Take the sums of tensors, one after the other.

    Parameters
    ----------
    base, models, names
        The lineup, and the tensors that are compared here.
    files
        Those of all models, as the models' `first_file` count them.
    progress
        Called once a tensor.

    Raises
    ------
    FormatError
        NaN or infinities, or a file that is cut.
    PlanError
        Differences too large for their type.
    """
    sizes = {name: _nbytes([base, *models], name) for name in names}
    done, total = 0, sum(sizes.values())
    found: dict[str, PairSums] = {}
    for count, name in enumerate(names):
        if progress is not None:
            progress(Progress(done, total, count, len(names), name, "compare"))
        found[name] = _Vectors(base, models, name, files).sums()
        done += sizes[name]
    return found


def _nbytes(everyone: Sequence[Model], name: str) -> int:
    return sum(model.checkpoint.tensors[name].nbytes for model in everyone)


class _Vectors:
    """The task vectors of one tensor: what adapters add, or the difference of what a model holds from the base."""

    def __init__(self, base: Model, models: Sequence[Model], name: str, files: Sequence[FileRecord]) -> None:
        self._name = name
        tensor = base.checkpoint.tensors[name]
        described = Description.of_shape(tensor.shape)
        self._shape = described.rows, described.columns
        self._base = rows_of(base.input(tensor).source, self._shape, files, name)
        self._vectors: list[tuple[Rows, bool]] = []
        for model in models:
            stored = model.checkpoint.tensors[name]
            update = model.update(stored) if model.starts_from(base, stored, tensor) else None
            source = model.input(stored).source if update is None else update
            self._vectors.append((rows_of(source, self._shape, files, name), update is not None))

    def sums(self) -> PairSums:
        """Add up inner products and signs over all blocks of rows."""
        rows, columns = self._shape
        models = len(self._vectors)
        products = np.zeros((models, models))
        shared, conflicts = np.zeros((2, models, models), np.int64)
        step = max(1, _BLOCK // (8 * max(1, columns)))
        for begin in range(0, rows, step):
            block = self._read(begin, min(rows, begin + step))
            both, differ = sign_counts(block)
            products += block @ block.T
            shared += both
            conflicts += differ
        if not np.isfinite(products).all():
            raise PlanError(
                f'tensor "{self._name}": the squares of its differences are too large for float64'
            )
        return PairSums(rows * columns, products.tolist(), shared.tolist(), conflicts.tolist())

    def _read(self, begin: int, end: int) -> Array:
        """Return a block of all task vectors, one a row."""
        base = None if all(is_update for _, is_update in self._vectors) else self._base.read(begin, end)
        found = []
        for rows, is_update in self._vectors:
            values = rows.read(begin, end)
            found.append(values if is_update or base is None else self._difference(values, base))
        return np.stack([vector.astype(np.float64).ravel() for vector in found])

    def _difference(self, values: NDArray[np.generic], base: NDArray[np.generic]) -> NDArray[np.generic]:
        """Subtract in float64 what is computed or F64; what is stored otherwise is rounded once, as by the core."""
        real = np.float64 if _DOUBLE in {values.dtype, base.dtype} else np.float32
        with np.errstate(over="ignore"):
            found: NDArray[np.generic] = values.astype(real) - base.astype(real)
        if not np.isfinite(found).all():
            raise PlanError(
                f'tensor "{self._name}" is too far from the base\'s for float32; leave it out with --exclude'
            )
        return found
