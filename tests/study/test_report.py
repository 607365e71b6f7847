"""Reports as Markdown, HTML and PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carrick.study.html import page
from carrick.study.markdown import best_rows, leading_number, table_lines, text
from carrick.study.report import Figure, Finding, Findings, Report, Section, Table, write_report

if TYPE_CHECKING:
    from pathlib import Path

TABLE = Table(
    ["row", "F1"], [["a", ".641"], ["b", ".700"], ["c <&>", ".700"], ["d", ""]], "A caption.", best=[1]
)


def report() -> Report:
    pytest.importorskip("matplotlib")
    from carrick.study.plots import heat_map, lines, rank_plot, ranked_points  # noqa: PLC0415

    figures = [
        Figure("points", "Points. More.", lambda: ranked_points(["a", "b"], [1, 2], [0.1, 0.2], label="x")),
        Figure("lines", "Lines.", lambda: lines({"a": ([0, 1], [1, 2])}, x="x", y="y")),
        Figure("map", "A map.", lambda: heat_map(["a", "b"], [[1, 0.2], [0.2, 1]], label="cosine")),
        Figure("ranks", "Ranks.", lambda: rank_plot(["a", "b", "c"], [1.2, 2.0, 2.8], 0.9)),
    ]
    findings = Findings([Finding("They differ.", "does not repeat", "95 % of `x`.")])
    return Report("Title", ["One **bold** <word>."], [Section("Part", ["text", TABLE, findings, *figures])])


def test_the_largest_numbers_are_bold() -> None:
    assert best_rows(TABLE, 1) == {1, 2}
    lines = table_lines(TABLE)
    assert [line.count("**") for line in lines] == [0, 0, 0, 2, 2, 0]
    assert len({len(line) for line in lines}) == 1  # aligned in the source


@pytest.mark.parametrize(
    ("cell", "number"), [("−.5 to 1", -0.5), ("1,024", 1024.0), ("37.5 %", 37.5), ("a1", None), ("", None)]
)
def test_leading_numbers(cell: str, number: float | None) -> None:
    assert leading_number(cell) == number


def test_files_are_written_the_same_each_time(tmp_path: Path) -> None:
    results = {"number": 1.5}
    one = write_report(report(), results, tmp_path / "one")
    other = write_report(report(), results, tmp_path / "other")
    assert [file.name for file in one] == [file.name for file in other]
    for first, second in zip(one, other, strict=True):
        assert first.read_bytes() == second.read_bytes(), first.name
    for file in one:
        if file.suffix == ".png":
            assert file.read_bytes().startswith(b"\x89PNG")
            assert b"Software" not in file.read_bytes()


def test_text_is_escaped_in_the_page() -> None:
    shown = report()
    html = page(shown, dict.fromkeys(("points", "lines", "map", "ranks"), b"png"))
    assert "One <strong>bold</strong> &lt;word&gt;." in html
    assert "c &lt;&amp;&gt;" in html
    assert 'class="finding does-not-repeat"' in html
    assert 'alt="Points"' in html


def test_a_claim_ends_before_what_was_found() -> None:
    finding = Finding("They differ", "mixed", "95 %")
    shown = Report("Title", [], [Section("Part", [Findings([finding])])])
    assert "- **mixed**: They differ. Here: 95\u00a0%.\n" in text(shown)
    assert "They differ.<br>Here: 95 %.</p>" in page(shown, {})
    assert ".mixed {" in page(shown, {})
    assert Finding("They differ.", "mixed", "95 %.").sentences == ("They differ.", "95 %.")


def test_no_cell_of_a_heat_map_is_a_negative_zero() -> None:
    pytest.importorskip("matplotlib")
    from carrick.study.plots import heat_map  # noqa: PLC0415

    axes = heat_map(["a", "b"], [[1, -0.004], [-0.011, 1]], label="cosine").axes[0]
    assert [cell.get_text() for cell in axes.texts] == ["1", "0.00", "−0.01", "1"]


def test_no_bar_of_ranks_is_cut() -> None:
    pytest.importorskip("matplotlib")
    from carrick.study.plots import rank_plot  # noqa: PLC0415

    assert rank_plot(["a", "b"], [4.0, 2.0], 7.0).axes[0].get_xlim()[0] < 2.0 - 3.5
    assert rank_plot(["a", "b"], [4.0, 2.0], 1.0).axes[0].get_xlim()[0] == 0


def test_markdown_keeps_to_the_width() -> None:
    assert max(map(len, text(report()).splitlines())) <= 100
