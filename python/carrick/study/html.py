"""A report as one self-contained HTML page: no scripts, no fonts, no files beside it."""

from __future__ import annotations

import base64
import re
from html import escape
from typing import TYPE_CHECKING

from carrick.study.markdown import best_rows, is_numeric
from carrick.study.report import Figure, Findings, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.study.report import Finding, Part, Report

_STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #ffffff; --faint: #5c5c5c; --line: #d9d9d9;
  --band: #f5f5f2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #161616; --faint: #a6a6a6; --line: #3a3a3a; --band: #202020; }
}
body { margin: 2.5rem auto; max-width: 62rem; padding: 0 1.2rem; color: var(--ink); background: var(--paper);
  font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; } h2 { margin-top: 2.6rem; font-size: 1.25rem; }
p, li { max-width: 48rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: .6rem 0 1.4rem; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid var(--faint); font-weight: 600; }
td.number, th.number { text-align: right; }
tbody tr:nth-child(even) { background: var(--band); }
figure { margin: 1.2rem 0 1.8rem; } figure img { max-width: 100%; background: #ffffff; border-radius: 4px; }
figcaption, .caption { color: var(--faint); font-size: .92rem; max-width: 48rem; }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--band); font-size: .85rem; }
code { font-size: .92em; }
.finding { border-left: 4px solid var(--line); padding: .1rem 0 .1rem 1rem; margin: .9rem 0; max-width: 48rem; }
.finding .verdict { font-weight: 700; }
.repeats { border-color: #0072b2; } .does-not-repeat { border-color: #d55e00; }
.repeats-in-part { border-color: #56b4e9; } .mixed { border-color: #e69f00; }
.within-the-noise, .by-construction { border-color: #999999; }
""".strip()


def page(report: Report, pictures: Mapping[str, bytes]) -> str:
    """Return the report as HTML.

    Parameters
    ----------
    report
        What is shown.
    pictures
        PNG bytes by the figure's name; they go into the page.
    """
    body = [f"<h1>{_inline(report.title)}</h1>"]
    body += [f"<p>{_inline(sentence)}</p>" for sentence in report.summary]
    for section in report.sections:
        body.append(f"<h2>{_inline(section.title)}</h2>")
        body += [_part(part, pictures) for part in section.parts]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(report.title)}</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _part(part: Part, pictures: Mapping[str, bytes]) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Figure):
        data = base64.b64encode(pictures[part.name]).decode()
        caption = _inline(part.caption)
        image = f'<img alt="{escape(part.short)}" src="data:image/png;base64,{data}">'
        return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
    if isinstance(part, Findings):
        return "\n".join(_finding(each) for each in part.found)
    if part.startswith("    "):
        code = "\n".join(line.removeprefix("    ") for line in part.splitlines())
        return f"<pre>{escape(code)}</pre>"
    if part.startswith("- "):
        return f"<ul>{''.join(f'<li>{_inline(item)}</li>' for item in _items(part))}</ul>"
    return f"<p>{_inline(part)}</p>"


def _finding(found: Finding) -> str:
    claim, evidence = found.sentences
    return (
        f'<div class="finding {found.verdict.replace(" ", "-")}"><p><span class="verdict">{found.verdict}</span>: '
        f"{_inline(claim)}<br>Here: {_inline(evidence)}</p></div>"
    )


def _items(part: str) -> list[str]:
    return [" ".join(item.split()) for item in re.split(r"(?m)^- ", part) if item.strip()]


def _table(table: Table) -> str:
    columns = range(len(table.head))
    kinds = [' class="number"' if is_numeric(table, column) else "" for column in columns]
    bold = {(row, column) for column in table.best for row in best_rows(table, column)}
    head = "".join(f"<th{kinds[column]}>{_inline(table.head[column])}</th>" for column in columns)
    rows = []
    for place, row in enumerate(table.rows):
        cells = [
            f"<strong>{_inline(cell)}</strong>" if (place, column) in bold else _inline(cell)
            for column, cell in enumerate(row)
        ]
        rows.append(
            "<tr>"
            + "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds, cells, strict=True))
            + "</tr>"
        )
    caption = f'<p class="caption">{_inline(table.caption)}</p>' if table.caption else ""
    return (
        f'{caption}<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _inline(content: str) -> str:
    """Escape a text and set what stands in `backticks` and **stars**.

    Examples
    --------
    >>> _inline("**a** < `b`")
    '<strong>a</strong> &lt; <code>b</code>'
    """
    safe = escape(content, quote=False)
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe)
