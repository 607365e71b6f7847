"""The reports of the studies that were run say what the code makes of their results, word for word."""

from __future__ import annotations

from pathlib import Path

import pytest

from carrick.cli import main

STUDIES = Path(__file__).resolve().parents[2] / "docs" / "studies"


@pytest.mark.parametrize("name", sorted(path.parent.name for path in STUDIES.glob("*/results.json")))
def test_a_report_is_made_from_its_results(name, tmp_path):
    pytest.importorskip("matplotlib")
    results = STUDIES / name / "results.json"
    assert main(["study", "report", name, "--from", str(results), "--out", str(tmp_path)]) == 0
    assert (tmp_path / "results.json").read_bytes() == results.read_bytes()
    made, committed = ((folder / "report.md").read_text("utf-8") for folder in (tmp_path, STUDIES / name))
    assert made == committed
    pictures = {path.name for path in (STUDIES / name).glob("*.png")}
    assert pictures == {path.name for path in tmp_path.glob("*.png")}
