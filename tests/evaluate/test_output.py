"""Results are in their folder as a whole or not at all, and nothing of an older run stays beside them."""

from __future__ import annotations

import json

import pytest

from carrick.errors import ConfigError
from carrick.evaluate import output
from carrick.evaluate.report import EvaluationReport, Score, TaskResult, read_report

pytest.importorskip("matplotlib")

ONE = {"results.json", "samples", "samples/mgsm_de.jsonl", "mgsm.png"}


def report(task="mgsm", value=0.5):
    samples = ({"row": 0, "answer": "é"},)
    result = TaskResult(task, "de", "exact_match", 1, 0, {"exact_match": Score(value, None)}, samples)
    return EvaluationReport("tiny", "cpu", (result,), 1.0, {}, {})


def names(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_what_is_written(tmp_path):
    report().save(tmp_path / "deep" / "out")
    assert names(tmp_path / "deep") == {"out", *(f"out/{name}" for name in ONE)}
    assert json.loads((tmp_path / "deep/out/samples/mgsm_de.jsonl").read_text("utf-8"))["answer"] == "é"


def test_a_killed_run_blocks_nothing_and_leaves_nothing(tmp_path):
    left = tmp_path / "out.carrick-partial"
    (left / "samples").mkdir(parents=True)
    for name in ("samples/gsm8k_en.jsonl", "gsm8k.png", "results.json"):
        (left / name).write_text("half")
    report().save(tmp_path / "out")
    assert names(tmp_path) == {"out", *(f"out/{name}" for name in ONE)}
    assert read_report(tmp_path / "out").tasks == ["mgsm"]


def test_force_leaves_nothing_of_the_old_run(tmp_path):
    report("gsm8k").save(tmp_path / "out")
    report().save(tmp_path / "out", force=True)
    assert names(tmp_path) == {"out", *(f"out/{name}" for name in ONE)}


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_what_stops_the_writing_leaves_the_old_results(tmp_path, monkeypatch, stop):
    from carrick.evaluate import plots  # noqa: PLC0415

    def fail(*_):
        raise stop

    report(value=0.25).save(tmp_path / "out")
    monkeypatch.setattr(plots, "bars", fail)
    with pytest.raises(stop):
        report(value=0.75).save(tmp_path / "out", force=True)
    assert names(tmp_path) == {"out", *(f"out/{name}" for name in ONE)}
    assert read_report(tmp_path / "out").results[0].score.value == 0.25


def test_what_is_never_replaced(tmp_path, monkeypatch):
    out = tmp_path / "out"
    report().save(out)
    with pytest.raises(ConfigError, match=r"holds results already.*--force"):
        report().save(out)
    monkeypatch.chdir(out)
    with pytest.raises(ConfigError, match="working or home folder"):
        report().save(".", force=True)
    monkeypatch.chdir(tmp_path)
    (out / "model.safetensors").write_text("")
    with pytest.raises(ConfigError, match=r"something else than results \(model.safetensors\)"):
        report().save(out, force=True)
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is a link"):
        output.check_out(tmp_path / "link", force=False)
    (tmp_path / "empty").rmdir()
    with pytest.raises(ConfigError, match="is a file"):
        output.check_out(out / "model.safetensors", force=True)
