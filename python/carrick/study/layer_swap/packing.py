"""Texts packed into rows of nearly equal length, so that a batch has little padding."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

SEPARATOR = "\n\n"
_OPEN_ROWS = 64


def pack(texts: Sequence[str], lengths: Sequence[int], limit: int) -> list[str]:
    r"""Join texts into rows of at most ``limit`` tokens; no text is cut, and each is used once.

    A text goes into the first open row with room for it (first fit over the last 64 rows). One that is longer
    than the limit has a row of its own, which training cuts.

    Parameters
    ----------
    texts
        Texts in the order of training.
    lengths
        Tokens of each.
    limit
        Tokens of a row. A separator counts as two.

    Examples
    --------
    >>> pack(["a b", "c", "d e f", "g"], [2, 1, 3, 1], limit=5)
    ['a b\n\nc', 'd e f', 'g']
    """
    rows: list[list[str]] = []
    room: list[int] = []
    for text, length in zip(texts, lengths, strict=True):
        first = max(0, len(rows) - _OPEN_ROWS)
        for place in range(first, len(rows)):
            if room[place] >= length + 2:
                rows[place].append(text)
                room[place] -= length + 2
                break
        else:
            rows.append([text])
            room.append(limit - length)
    return [SEPARATOR.join(row) for row in rows]
