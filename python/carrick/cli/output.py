"""What the commands print: results on stdout, everything else on stderr, tables of at most 100 columns."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 100
_GAP = "  "
_ELLIPSIS = "…"


def say(text: str = "") -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{text}\n")


def say_json(data: Any) -> None:
    """Print the result for a program."""
    say(json.dumps(data, indent=2, ensure_ascii=False))


def note(text: str) -> None:
    """Print a remark that is not part of the result."""
    sys.stderr.write(f"note: {text}\n")


def notes(texts: Iterable[str]) -> None:
    """Print remarks, each one once."""
    for text in dict.fromkeys(texts):
        note(text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Iterable[int] = ()) -> list[str]:
    """Lines of an aligned table that fits the width.

    Parameters
    ----------
    head
        Titles of the columns.
    rows
        Cells; the widest column of text gives way when a line would be too long.
    numbers
        Columns that are aligned to the right.

    Examples
    --------
    >>> for line in table(["name", "size"], [["a", "10 B"], ["long", "2 B"]], numbers=[1]):
    ...     print(line)
    name  size
    a     10 B
    long   2 B
    """
    right = set(numbers)
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - WIDTH
    if excess > 0:
        texts = [column for column in range(len(head)) if column not in right] or [0]
        widest = max(texts, key=lambda column: widths[column])
        widths[widest] = max(widths[widest] - excess, len(head[widest]), 8)
    lines = []
    for row in [head, *rows]:
        cells = [shorten(cell, width) for cell, width in zip(row, widths, strict=True)]
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append(_GAP.join(padded).rstrip())
    return lines


def shorten(text: str, width: int) -> str:
    """Text cut in the middle, where tensor names differ least.

    Examples
    --------
    >>> shorten("model.layers.10.mlp.up_proj.weight", 20)
    'model.laye…oj.weight'
    """
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return text[: width - 1 - tail] + _ELLIPSIS + text[len(text) - tail :]


def fields(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Lines of names and values, the values aligned.

    Examples
    --------
    >>> fields([("kind", "llama"), ("layers", "16")])
    ['kind    llama', 'layers  16']
    """
    width = max(len(name) for name, _ in pairs)
    return [f"{name.ljust(width)}{_GAP}{value}".rstrip() for name, value in pairs]


def count(number: int, noun: str) -> str:
    """Write a number with its noun, such as ``1 tensor`` or ``1,024 tensors``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def parameters(number: int) -> str:
    """Write a number of elements for people, such as ``1.24 B``.

    Examples
    --------
    >>> parameters(999), parameters(65_536), parameters(1_235_814_400)
    ('999', '65.5 k', '1.24 B')
    """
    size = float(number)
    for unit in ("", " k", " M", " B", " T"):
        if size < 999.5 or unit == " T":
            break
        size /= 1000
    return f"{number}" if not unit else f"{size:.{max(0, 3 - len(str(int(size))))}f}{unit}"
