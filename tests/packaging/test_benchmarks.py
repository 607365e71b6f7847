"""The page of benchmarks says what its raw results say, and these say nothing of the host but its kind."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "benches" / "results").glob("*.json"))


@pytest.fixture
def benches(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from benches import machine, memory, report  # noqa: PLC0415  (no package: found by the path)

    return {"machine": machine, "memory": memory, "report": report}


@pytest.mark.parametrize("page", ["docs/benchmarks.md", "README.md"])
def test_the_pages_are_made_from_the_results(benches, page):
    report = benches["report"]
    results = report.load(report.RESULTS)
    wanted = report.picture(results)
    if page != "README.md":
        wanted = report.table(report.RESULTS) + report.adapters_picture(results)
    held = (ROOT / page).read_text(encoding="utf-8").split(report.BEGIN)[1].split(report.END)[0]
    assert held.strip() == wanted


def test_memory_is_the_same_quantity_for_all_tools(benches):
    runs = [{"peak_anonymous": 1 << 30, "peak_resident": 0}, {"peak_anonymous": 3 << 30, "peak_resident": 0}]
    result = {
        "kind": "merge", "title": "a merge", "goals": {"mergekit": 1, "ceiling": None},
        "interpreter_bytes": 1 << 30, "runs": {"carrick": runs, "mergekit": runs},
        "medians": {tool: {"seconds": 1.0, "peak_anonymous": 2 << 30} for tool in ("carrick", "mergekit")},
    }  # fmt: skip
    row = benches["report"].merge_table({"a": result})[-1]
    assert [cell.strip() for cell in row.split("|")[-4:-1]] == ["3072 MiB", "0 MiB", "3.0 GiB"]
    assert benches["memory"].planned("about 484 MB") == "462 MiB"


def test_nothing_names_the_host(benches):
    assert benches["machine"]._kernel("6.18.44-fc-v669") == "6.18"
    assert len(RESULTS) > 20
    for path in RESULTS:
        assert re.fullmatch(r"\d+\.\d+", json.loads(path.read_text())["machine"]["kernel"]), path.name
