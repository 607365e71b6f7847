"""Rows of stored matrices at chosen places of a described one: trained tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.checkpoints.element_types import byte_count
from carrick.plan.description import Block, Place

if TYPE_CHECKING:
    from collections.abc import Iterable


def row_blocks(
    place: Place, columns: int, rows: Iterable[tuple[int, int]], scale: float = 1.0
) -> list[Block]:
    """Return the blocks that put rows of a stored matrix, times `scale`, where they belong.

    Parameters
    ----------
    place, columns
        The stored matrix.
    rows
        Pairs of a row of the described matrix and the stored one that is added to it. What lies one behind the
        other in both is one block.
    scale
        What the stored rows are multiplied with.

    Examples
    --------
    >>> blocks = row_blocks(Place(0, 100, "F32"), 4, [(7, 0), (8, 1), (2, 2)])
    >>> [(block.row, block.rows, block.place.offset) for block in blocks]
    [(7, 2, 100), (2, 1, 132)]
    """
    runs: list[tuple[int, int, int]] = []
    for row, held in rows:
        first, begin, count = runs[-1] if runs else (0, 0, 0)
        if count and (row, held) == (first + count, begin + count):
            runs[-1] = first, begin, count + 1
        else:
            runs.append((row, held, 1))
    return [
        Block(
            Place(place.file, place.offset + byte_count(place.dtype, begin * columns), place.dtype),
            count,
            columns,
            row=first,
            scale=scale,
        )
        for first, begin, count in runs
    ]
