"""What the commands print: results on stdout, everything else on stderr, tables of at most 100 columns."""

from __future__ import annotations

import json
import sys
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 100
_GAP = "  "
_ELLIPSIS = "…"
_LEAST = 8
_LEAST_SENTENCE = 16


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


def table(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    numbers: Iterable[int] = (),
    sentence: int | None = None,
) -> list[str]:
    """Lines of an aligned table that fits the width.

    Parameters
    ----------
    head
        Titles of the columns.
    rows
        Cells, of several lines where they hold newlines. The widest column of text gives way when a line would be
        too long: names are cut in the middle.
    numbers
        Columns that are aligned to the right.
    sentence
        The column that gives way first, by being wrapped.

    Examples
    --------
    >>> for line in table(["name", "size"], [["a", "10 B"], ["long", "2 B"]], numbers=[1]):
    ...     print(line)
    name  size
    a     10 B
    long   2 B
    """
    right = set(numbers)
    widths = _widths([head, *rows], right, sentence)
    lines = []
    for row in [head, *rows]:
        cells = [
            wrapped(cell, width=width)
            if column == sentence
            else [shorten(line, width) for line in cell.split("\n")]
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        for parts in zip_longest(*cells, fillvalue=""):
            padded = [
                part.rjust(width) if column in right else part.ljust(width)
                for column, (part, width) in enumerate(zip(parts, widths, strict=True))
            ]
            lines.append(_GAP.join(padded).rstrip())
    return lines


def _widths(rows: Sequence[Sequence[str]], right: set[int], sentence: int | None) -> list[int]:
    """Widths of a table's columns, of which the sentence and then the widest text give way."""
    head = rows[0]
    columns = range(len(head))
    widths = [max(len(line) for row in rows for line in row[column].split("\n")) for column in columns]
    texts = [column for column in columns if column not in right | {sentence}] or [0]
    widest = max(texts, key=lambda column: widths[column])
    for column in (sentence, widest):
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - WIDTH
        if column is not None and excess > 0:
            least = _LEAST_SENTENCE if column == sentence else _LEAST
            widths[column] = max(widths[column] - excess, len(head[column]), min(least, widths[column]))
    return widths


def wrapped(text: str, indent: str = "", width: int | None = None) -> list[str]:
    """Lines of a sentence that fit the width; words that are longer stay whole.

    Examples
    --------
    >>> wrapped("of two words each", "  ", 12)
    ['  of two', '  words each']
    """
    from textwrap import wrap  # noqa: PLC0415  (not every command prints sentences)

    return wrap(
        text,
        WIDTH if width is None else width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


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
    """Lines of names and values, the values aligned, and wrapped where they are long.

    Examples
    --------
    >>> fields([("kind", "llama"), ("layers", "16")])
    ['kind    llama', 'layers  16']
    """
    width = max(len(name) for name, _ in pairs)
    lines = []
    for name, value in pairs:
        first, *rest = wrapped(value, width=WIDTH - width - len(_GAP)) or [""]
        lines.append(f"{name.ljust(width)}{_GAP}{first}".rstrip())
        lines += [" " * (width + len(_GAP)) + line for line in rest]
    return lines


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
