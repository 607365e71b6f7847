"""Plots of layer swapping: what a colour or a line means can be read from the plot and its caption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carrick.study.report import Figure

pytest.importorskip("matplotlib")

from matplotlib.colors import to_hex

from carrick.study.layer_swap import drawings, pages

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "studies" / "layer-swap" / "results.json"


@pytest.fixture(scope="module")
def found() -> Any:
    return json.loads(RESULTS.read_text("utf-8"))["found"]


def test_every_colour_is_in_the_legend(found: Any) -> None:
    rows = [row for row in found["rows"] if row["kind"] in {"base", "lora"}]
    figure = drawings.german_math(rows)
    drawn = {to_hex(bars.lines[0].get_color()) for bars in figure.axes[0].containers}
    named = {to_hex(line.get_color()): line.get_label() for line in figure.legends[0].get_lines()}
    assert drawn == set(named)
    assert len(set(named.values())) == len(named)
    alone = [row for row in rows if row["family"] in {"base", "mixing"}]
    assert [text.get_text() for text in drawings.german_math(alone).legends[0].get_texts()] == ["data mixing"]


def test_both_lines_are_in_the_caption(found: Any) -> None:
    drawn = next(part for part in pages._freeze(found) if isinstance(part, Figure))
    styles = {line.get_label(): line.get_linestyle() for line in drawn.draw().axes[0].get_lines()}
    assert (styles["nothing frozen"], styles["base"]) == ("--", ":")
    assert "dashed line is the expert with nothing frozen, the dotted one the base" in drawn.caption
