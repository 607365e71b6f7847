"""The chart: bars and error bars are the scores and their standard errors, and can be told apart."""

from __future__ import annotations

import pytest

from carrick.errors import ConfigError
from carrick.evaluate.plots import bars, draw
from carrick.evaluate.report import EvaluationReport, Score, TaskResult

pytest.importorskip("matplotlib")

VALUES = {"en": (0.6, 0.02), "de": (0.5, 0.04)}


def report(name, shift=0.0, languages=("en", "de")):
    results = [
        TaskResult(
            "sentiment", each, "macro_f1", 9, 0, {"macro_f1": Score(VALUES[each][0] + shift, VALUES[each][1])}
        )
        for each in languages
    ]
    return EvaluationReport(name, "cpu", tuple(results), 1.0, {}, {})


def test_bars_are_the_scores():
    reports = {"mean": report("a"), "TIES": report("b", 0.1)}
    from matplotlib.container import BarContainer  # noqa: PLC0415

    (axes,) = draw(reports, "sentiment").axes
    groups = [each for each in axes.containers if isinstance(each, BarContainer)]
    heights = [[bar.get_height() for bar in group.patches] for group in groups]
    assert heights == [pytest.approx([0.6, 0.5, 0.55]), pytest.approx([0.7, 0.6, 0.65])]
    errors = [group.errorbar.lines[2][0].get_segments() for group in groups]
    spans = [[(top[1] - low[1]) / 2 for low, top in segments] for segments in errors]
    assert spans[0] == pytest.approx([0.02, 0.04, (0.02**2 + 0.04**2) ** 0.5 / 2])
    assert [label.get_text() for label in axes.get_xticklabels()] == ["en", "de", "overall"]
    assert axes.get_ylabel() == "macro F1 (± 1 s.e.)"
    colours = {group.patches[0].get_facecolor() for group in groups}
    hatches = {group.patches[0].get_hatch() for group in groups}
    assert (len(colours), len(hatches)) == (2, 2)


def test_one_language_has_no_mean():
    (axes,) = draw({"a": report("a", languages=("de",))}, "sentiment").axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["de"]


def test_files(tmp_path):
    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        for name in ("one", "two"):
            bars({"a": report("a")}, "sentiment", tmp_path / f"{name}{suffix}")
        one, two = (tmp_path / f"{name}{suffix}" for name in ("one", "two"))
        assert one.read_bytes().startswith(start)
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.parametrize(
    ("reports", "task", "message"),
    [
        ({"a": report("a")}, "mgsm", "has no task mgsm"),
        ({"a": report("a"), "b": report("b", languages=("de",))}, "sentiment", "b has sentiment in de"),
        ({}, "sentiment", "1 to 8 models"),
    ],
)
def test_refused(reports, task, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        bars(reports, task, tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"\.png or a \.svg"):
        bars({"a": report("a")}, "sentiment", tmp_path / "a.gif")
    with pytest.raises(ConfigError, match="no score rouge1"):
        bars({"a": report("a")}, "sentiment", tmp_path / "a.png", metric="rouge1")
