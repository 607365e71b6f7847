"""Sums that norms, cosines and sign conflicts are made of; sums of parts add up to those of the whole."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Matrix = list[list[float]]
    Counts = list[list[int]]
    N = TypeVar("N", int, float)


@dataclass(frozen=True, slots=True)
class PairSums:
    """Sums over entries for each pair of models, as full symmetric matrices.

    Attributes
    ----------
    elements
        Entries of one task vector.
    products
        Inner products ⟨τᵢ, τⱼ⟩.
    shared, conflicts
        Entries where neither is zero, and those of them with different signs; None when not counted.
    """

    elements: int
    products: Matrix
    shared: Counts | None = None
    conflicts: Counts | None = None


def add_up(parts: Sequence[PairSums]) -> PairSums:
    """Add sums over parts up; the result does not depend on their order.

    Examples
    --------
    >>> add_up([PairSums(2, [[1e16]]), PairSums(3, [[1.0]]), PairSums(4, [[-1e16]])])
    PairSums(elements=9, products=[[1.0]], shared=None, conflicts=None)
    """
    shared = [part.shared for part in parts if part.shared is not None]
    conflicts = [part.conflicts for part in parts if part.conflicts is not None]
    counted = bool(parts) and len(shared) == len(conflicts) == len(parts)
    return PairSums(
        sum(part.elements for part in parts),
        _add([part.products for part in parts], math.fsum),
        _add(shared, sum) if counted else None,
        _add(conflicts, sum) if counted else None,
    )


def _add(matrices: Sequence[list[list[N]]], total: Callable[[list[N]], N]) -> list[list[N]]:
    models = range(len(matrices[0]))
    return [[total([matrix[i][j] for matrix in matrices]) for j in models] for i in models]


def symmetric(upper: Sequence[N], models: int, *, diagonal: bool, fill: N) -> list[list[N]]:
    """Fill a symmetric matrix from its upper triangle, listed row by row.

    Parameters
    ----------
    upper
        The entries.
    models
        Rows of the matrix.
    diagonal
        Whether the diagonal is among the entries; if not, it becomes `fill`.

    Examples
    --------
    >>> symmetric([1.0, 2.0, 3.0], 2, diagonal=True, fill=0.0)
    [[1.0, 2.0], [2.0, 3.0]]
    >>> symmetric([7], 2, diagonal=False, fill=0)
    [[0, 7], [7, 0]]
    """
    matrix = [[fill] * models for _ in range(models)]
    entries = iter(upper)
    for i in range(models):
        for j in range(i if diagonal else i + 1, models):
            matrix[i][j] = matrix[j][i] = next(entries)
    return matrix
