"""The heat map: files that open, panels, values in cells, text that can be read on its colour."""

from __future__ import annotations

import pytest

import carrick
from carrick.similarity import heatmap

pytest.importorskip("matplotlib")


def test_png_and_svg(command, family, tmp_path):
    base, tuned = family(3)
    for name, start in (("map.png", b"\x89PNG"), ("map.svg", b"<?xml")):
        answer = command(*tuned, "--base", base, "--plot", tmp_path / name)
        assert answer.code == 0, answer.err
        assert f"the heat map is {tmp_path / name}" in answer.err
        assert (tmp_path / name).read_bytes().startswith(start)


def test_the_same_comparison_is_the_same_picture(family, tmp_path):
    base, tuned = family(2)
    found = carrick.similarity(tuned, base)
    for suffix in heatmap.FORMATS:
        one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
        heatmap.plot(found, one)
        heatmap.plot(found, two)
        assert one.read_bytes() == two.read_bytes()


def test_panels_and_values(family):
    base, tuned = family(3)
    found = carrick.similarity(tuned, base)
    axes = [each for each in heatmap.draw(found).axes if each.get_title()]
    assert [each.get_title() for each in axes[1:]] == [part.name for part in found.by_module]
    limit = heatmap.colour_limit([found.whole, *found.by_module])
    for panel, part in zip(axes, [found.whole, *found.by_module], strict=True):
        shown = {text.get_position(): text.get_text() for text in panel.texts}
        assert len(shown) == 9
        for i, row in enumerate(part.cosine):
            for j, value in enumerate(row):
                assert float(shown[j, i]) == pytest.approx(value, abs=0.005)
        assert panel.images[0].get_clim() == (-limit, limit)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == found.models


def test_text_contrasts_with_its_cell(family):
    base, tuned = family(4)
    found = carrick.similarity(tuned, base)
    for panel in heatmap.draw(found).axes:
        for image in panel.images:
            for text in panel.texts:
                column, row = text.get_position()
                cell = _luminance(image.to_rgba(image.get_array())[row, column])
                ink = _luminance(_rgb(text.get_color()))
                bright, dark = max(cell, ink), min(cell, ink)
                assert (bright + 0.05) / (dark + 0.05) >= 4.5


def _rgb(name):
    from matplotlib.colors import to_rgb  # noqa: PLC0415

    return to_rgb(name)


def _luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_without_matplotlib_the_hint_comes_before_any_work(command, family, tmp_path, monkeypatch):
    base, tuned = family(2)
    monkeypatch.setattr(heatmap, "find_spec", {}.get)
    answer = command(*tuned, "--base", base, "--plot", tmp_path / "map.png")
    assert answer.code == 2
    assert "pip install 'carrick[plot]'" in answer.err
    assert not answer.out
    assert not (tmp_path / "map.png").exists()
