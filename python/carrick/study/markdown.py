"""A report as Markdown, with tables of at most 100 columns."""

from __future__ import annotations

import re
from textwrap import fill
from typing import TYPE_CHECKING

from carrick.study.report import Figure, Findings, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.study.report import Finding, Part, Report

WIDTH = 100
_NUMBER = re.compile(r"[-+−]?\d[\d,]*\.?\d*|[-+−]?\.\d+")


def text(report: Report) -> str:
    """Return the report as a Markdown page."""
    lines = [f"# {report.title}", ""]
    for sentence in report.summary:
        lines += [_wrapped(sentence), ""]
    for section in report.sections:
        lines += [f"## {section.title}", ""]
        for part in section.parts:
            lines += [_part(part), ""]
    return "\n".join(lines).rstrip() + "\n"


def leading_number(cell: str) -> float | None:
    """Return the number that a cell begins with.

    Examples
    --------
    >>> leading_number(".641 ± .016"), leading_number("−2.5 %"), leading_number("COMB")
    (0.641, -2.5, None)
    """
    found = _NUMBER.match(cell.strip())
    return float(found.group().replace(",", "").replace("−", "-")) if found else None


def best_rows(table: Table, column: int) -> set[int]:
    """Rows that hold the largest number of a column, ties included."""
    values = {row: leading_number(cells[column]) for row, cells in enumerate(table.rows)}
    known = [value for value in values.values() if value is not None]
    return {row for row, value in values.items() if known and value == max(known)}


def is_numeric(table: Table, column: int) -> bool:
    """Whether a column holds numbers, and is aligned to the right."""
    cells = [row[column] for row in table.rows if row[column] not in {"", "–"}]
    return bool(cells) and all(leading_number(cell) is not None for cell in cells)


def table_lines(table: Table) -> list[str]:
    """Lines of a Markdown table whose columns are aligned in the source too."""
    columns = range(len(table.head))
    bold = {(row, column) for column in table.best for row in best_rows(table, column)}
    cells = [
        [f"**{cell}**" if (place, column) in bold else cell for column, cell in enumerate(row)]
        for place, row in enumerate(table.rows)
    ]
    right = {column for column in columns if is_numeric(table, column)}
    widths = [max([len(table.head[c]), 3, *(len(row[c]) for row in cells)]) for c in columns]
    if sum(widths) + 3 * len(widths) + 1 > WIDTH:  # a table too wide to align is still one that renders
        widths = [3 for _ in columns]
    rule = ["-" * (widths[c] - 1) + (":" if c in right else "-") for c in columns]
    return [_row(row, widths, right) for row in [list(table.head), rule, *cells]]


def _row(cells: Sequence[str], widths: Sequence[int], right: set[int]) -> str:
    padded = [
        cell.rjust(width) if column in right else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return f"| {' | '.join(padded)} |"


def _part(part: Part) -> str:
    if isinstance(part, Table):
        caption = [_wrapped(part.caption), ""] if part.caption else []
        return "\n".join([*caption, *table_lines(part)])
    if isinstance(part, Figure):
        return f"![{part.short}]({part.name}.png)\n\n{_wrapped(part.caption)}"
    if isinstance(part, Findings):
        return "\n".join(_finding(each) for each in part.found)
    return _wrapped(part)


def _finding(found: Finding) -> str:
    claim, evidence = found.sentences
    return _wrapped(f"- **{found.verdict}**: {claim} Here: {evidence}", indent="  ")


def _wrapped(content: str, indent: str = "") -> str:
    if content.startswith(("    ", "```", "- ")) and not indent:
        return content
    # A number and its percent sign stay together.
    content = content.replace(" %", "\u00a0%")
    return fill(content, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
