"""What a study found, as sections of text, tables, figures and findings; and its files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from carrick.study.keys import write_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from matplotlib.figure import Figure as Drawing

# `by construction`: what the recipe brings about whatever the models learn; it confirms nothing.
Verdict = Literal[
    "repeats", "repeats in part", "mixed", "does not repeat", "within the noise", "by construction", "not tested"
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Table:
    """A table of text.

    Attributes
    ----------
    head, rows
        Titles of the columns, and cells.
    caption
        What it shows, in a sentence; how numbers are to be read.
    best
        Columns whose largest number is set in bold, by their place.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""
    best: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """A plot: name of its PNG file without the ending, what it shows, and the function that draws it."""

    name: str
    caption: str
    draw: Callable[[], Drawing]

    @property
    def short(self) -> str:
        """The caption's first sentence, for readers who do not see the plot."""
        return self.caption.partition(". ")[0].rstrip(".")


def _ended(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim of the paper and what the numbers here say to it.

    Attributes
    ----------
    claim
        What the paper says, with its section or table.
    verdict
        Derived from the numbers by a stated rule, never by hand.
    evidence
        The numbers that it was derived from.
    """

    claim: str
    verdict: Verdict
    evidence: str

    @property
    def sentences(self) -> tuple[str, str]:
        """Claim and evidence, each with its full stop."""
        return _ended(self.claim), _ended(self.evidence)


@dataclass(frozen=True, slots=True)
class Findings:
    """Findings that are shown together."""

    found: Sequence[Finding]


Part = str | Table | Figure | Findings


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it; a text may hold `code` and **bold**."""

    title: str
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Report:
    """A report: title, a few sentences first, then sections."""

    title: str
    summary: Sequence[str]
    sections: Sequence[Section] = field(default=())


def write_report(report: Report, results: Mapping[str, Any], out: Path) -> list[Path]:
    """Write results.json, report.md, a PNG for each figure, and one self-contained report.html.

    The same results give the same bytes.

    Returns
    -------
    The files.
    """
    from carrick.study.html import page  # noqa: PLC0415  (beside matplotlib, wanted here alone)
    from carrick.study.markdown import text  # noqa: PLC0415
    from carrick.study.plots import png  # noqa: PLC0415

    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "results.json", results)
    files = [out / "results.json"]
    pictures = {}
    for section in report.sections:
        for part in section.parts:
            if isinstance(part, Figure):
                pictures[part.name] = png(part.draw())
                files.append(out / f"{part.name}.png")
                files[-1].write_bytes(pictures[part.name])
    for name, content in (("report.md", text(report)), ("report.html", page(report, pictures))):
        files.append(out / name)
        files[-1].write_text(content, encoding="utf-8")
    return files
