"""The engine: keys, skipping, what a change runs anew, failures, kills, the lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from carrick.errors import CarrickError, ConfigError
from carrick.study.keys import Checksums, stage_key
from carrick.study.planning import chains, in_order, plan
from carrick.study.schedule import Moment, Outcome, Schedule
from carrick.study.stage import Stage, Work
from carrick.study.store import Store

TOY = "study.toy"


def _quiet(moment: Moment) -> None:
    del moment


def run(stages: list[Stage], out: Path, jobs: int = 1) -> Outcome:
    store = Store(out)
    return Schedule(plan(stages, store), store, jobs, _quiet).run()


def chain(data: Path, text: str = "", version: int = 1) -> list[Stage]:
    """``left`` and ``right`` read the file; ``last`` needs ``left`` alone."""
    return [
        Stage("last", f"{TOY}:write", needs=("left",)),
        Stage("left", f"{TOY}:write", {"text": text}, files={"data": data}, version=version),
        Stage("right", f"{TOY}:write", {"text": "r"}, files={"data": data}),
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data.txt"
    file.write_text("one")
    return file


def runs(out: Path, name: str) -> int:
    return len((out / "stages" / name / "runs.txt").read_text().splitlines())


def test_stages_run_in_order_and_once(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    first = run(chain(data), out)
    assert first.ran.index("left") < first.ran.index("last")
    assert Store(out).finished("last").result == {"text": "one"}
    second = run(chain(data), out)
    assert (second.ran, sorted(second.skipped)) == ([], ["last", "left", "right"])


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"text": "x"}, ["left", "last"]),
        ({"version": 2}, ["left", "last"]),
    ],
)
def test_a_change_runs_what_follows_and_nothing_else(
    tmp_path: Path, data: Path, change: dict[str, object], again: list[str]
) -> None:
    run(chain(data), tmp_path / "out")
    outcome = run(chain(data, **change), tmp_path / "out")  # type: ignore[arg-type]
    assert (outcome.ran, outcome.skipped) == (again, ["right"])


def test_a_changed_file_runs_all_that_read_it(tmp_path: Path, data: Path) -> None:
    run(chain(data), tmp_path / "out")
    data.write_text("two")
    outcome = run(chain(data), tmp_path / "out")
    assert sorted(outcome.ran) == ["last", "left", "right"]
    assert Store(tmp_path / "out").finished("last").result == {"text": "two"}


def test_a_file_with_the_same_content_elsewhere_runs_nothing(tmp_path: Path, data: Path) -> None:
    run(chain(data), tmp_path / "out")
    (tmp_path / "moved").mkdir()
    data.rename(tmp_path / "moved" / "data.txt")
    assert run(chain(tmp_path / "moved" / "data.txt"), tmp_path / "out").ran == []


def test_a_failure_is_reported_and_the_rest_runs(tmp_path: Path, data: Path) -> None:
    stages = [
        Stage("bad", f"{TOY}:fail"),
        Stage("after", f"{TOY}:write", needs=("bad",)),
        Stage("dies", f"{TOY}:die"),
        Stage("strange", f"{TOY}:unwritable"),
        Stage("lost", f"{TOY}:no_such_function"),
        Stage("good", f"{TOY}:write", files={"data": data}),
    ]
    outcome = run(stages, tmp_path / "out")
    assert outcome.ran == ["good"]
    assert outcome.waiting == ["after"]
    assert outcome.failed["bad"] == "ValueError: bad was made to fail"
    assert "SIGKILL" in outcome.failed["dies"]
    assert "not JSON serializable" in outcome.failed["strange"] or "JSON" in outcome.failed["strange"]
    assert "no_such_function" in outcome.failed["lost"]
    assert "was made to fail" in (tmp_path / "out/stages/bad/log.txt").read_text()
    with pytest.raises(CarrickError, match=r"stage bad of .* is not finished"):
        Store(tmp_path / "out").finished("bad")


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_of_any_kind_is_a_failure_of_its_stage(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch, jobs: int
) -> None:
    finish = Store.finish

    def broken(store: Store, stage: Stage, key: str, **record: Any) -> None:
        if stage.name == "left":
            raise RuntimeError("no one expected this")
        finish(store, stage, key, **record)

    monkeypatch.setattr(Store, "finish", broken)
    outcome = run(chain(data), tmp_path / "out", jobs=jobs)
    assert outcome.failed == {"left": "RuntimeError: no one expected this"}
    assert (outcome.ran, outcome.waiting) == (["right"], ["last"])


def test_a_display_that_fails_stops_no_stage(tmp_path: Path, data: Path) -> None:
    def tell(moment: Moment) -> None:
        raise ValueError(f"{moment.done} cannot be shown")

    store = Store(tmp_path)
    with pytest.raises(ValueError, match="0 cannot be shown"):
        Schedule(plan(chain(data), store), store, 2, tell).run()
    assert store.finished("last").result == {"text": "one"}


def test_stages_run_side_by_side_with_one_thread_each(tmp_path: Path) -> None:
    stages = [Stage(f"wait-{place}", f"{TOY}:together", {"seconds": 0.6}) for place in range(2)]
    run(stages, tmp_path / "out", jobs=2)
    one, other = (Store(tmp_path / "out").finished(stage.name).result for stage in stages)
    assert max(one["begun"], other["begun"]) < min(one["ended"], other["ended"])
    assert one["threads"] == "1"


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path) -> None:
    """SIGKILL to the study: its worker ends too, and the stage goes on in its folder."""
    script = (
        "from pathlib import Path\n"
        "from study.test_engine import run\n"
        "from carrick.study.stage import Stage\n"
        f"run([Stage('slow', 'study.toy:slow', {{'steps': 25}})], Path({str(tmp_path / 'out')!r}))\n"
    )
    tests = str(Path(__file__).resolve().parent.parent)
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": tests})
    counter = tmp_path / "out/stages/slow/steps.txt"
    deadline = time.monotonic() + 30
    while not (counter.exists() and len(counter.read_text()) >= 3):
        assert time.monotonic() < deadline, "the stage never began"
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(0.3)
    stopped = len(counter.read_text())
    time.sleep(0.4)
    assert len(counter.read_text()) == stopped, "the worker outlived the study"
    assert stopped < 25
    stages = [Stage("slow", f"{TOY}:slow", {"steps": 25})]
    assert [each.state for each in plan(stages, Store(tmp_path / "out"))] == ["interrupted"]
    run(stages, tmp_path / "out")
    assert Store(tmp_path / "out").finished("slow").result == {"text": "25", "began_at": stopped}


def test_what_other_inputs_left_is_swept_away(tmp_path: Path, data: Path) -> None:
    out = tmp_path / "out"
    run(chain(data), out)
    run(chain(data, text="x"), out)
    assert runs(out, "left") == 1  # the folder was emptied first


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with (
        Store(tmp_path).lock(),
        pytest.raises(ConfigError, match="another run of a study is working there"),
        Store(tmp_path).lock(),
    ):
        pass
    with Store(tmp_path).lock():
        pass


def test_a_damaged_record_is_a_stage_that_is_not_done(tmp_path: Path, data: Path) -> None:
    run(chain(data), tmp_path / "out")
    (tmp_path / "out/stages/right/stage.json").write_text("{")
    assert run(chain(data), tmp_path / "out").ran == ["right"]


def test_progress_tells_every_end(tmp_path: Path, data: Path) -> None:
    moments: list[Moment] = []
    store = Store(tmp_path)
    Schedule(plan(chain(data), store), store, 1, moments.append).run()
    assert sorted(m.finished for m in moments if m.finished) == ["last", "left", "right"]
    assert moments[-1].done == moments[-1].total == 3


def test_the_longest_chain_comes_first() -> None:
    stages = [
        Stage("short", "m:f", work=Work(seconds=5)),
        Stage("head", "m:f", work=Work(seconds=1)),
        Stage("tail", "m:f", needs=("head",), work=Work(seconds=9)),
    ]
    assert chains(in_order(stages)) == {"short": 5.0, "head": 10.0, "tail": 9.0}


def test_keys_depend_on_content_alone(tmp_path: Path) -> None:
    stage = Stage("a", "m:f", {"x": {"b": 1, "a": 2}})
    same = Stage("renamed", "m:f", {"x": {"a": 2, "b": 1}}, work=Work(seconds=3))
    key = stage_key(stage, {}, {})
    assert key == stage_key(same, {}, {})
    others = [Stage("a", "m:g", stage.params), Stage("a", "m:f", stage.params, version=2)]
    assert len({key, *(stage_key(each, {}, {}) for each in others), stage_key(stage, {"n": "1"}, {})}) == 4
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("x")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "file").write_text("x")
    sums = Checksums()
    assert sums.of(tmp_path / "one") == sums.of(tmp_path / "two")
    (tmp_path / "two" / "file").rename(tmp_path / "two" / "other")
    assert sums.of(tmp_path / "one") != sums.of(tmp_path / "two")


def test_checksums_are_remembered_until_the_file_changes(tmp_path: Path) -> None:
    file, kept = tmp_path / "file", tmp_path / "kept.json"
    file.write_text("x")
    first = Checksums(kept)
    known = first.of(file)
    first.save()
    content = json.loads(kept.read_text())
    content[str(file)][2] = "remembered"
    kept.write_text(json.dumps(content))
    assert Checksums(kept).of(file) == "remembered"
    file.write_text("yz")
    assert Checksums(kept).of(file) not in {"remembered", known}


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([Stage("a", "m:f"), Stage("a", "m:f")], "two stages are called `a`"),
        ([Stage("train", "m:f"), Stage("b", "m:f", needs=("trian",))], "did you mean `train`"),
        ([Stage("a", "m:f", needs=("b",)), Stage("b", "m:f", needs=("a",))], "wait for each other"),
    ],
)
def test_impossible_plans_are_refused(stages: list[Stage], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        in_order(stages)


def test_names_and_functions_are_checked() -> None:
    with pytest.raises(ConfigError, match="no name of a stage"):
        Stage("../out", "m:f")
    with pytest.raises(ConfigError, match=r"package\.module:function"):
        Stage("a", "no colon")


def test_a_missing_file_is_planned_as_such(tmp_path: Path) -> None:
    stages = [
        Stage("a", "m:f", files={"data": tmp_path / "nothing"}),
        Stage("b", "m:f", needs=("a",)),
    ]
    planned = plan(stages, Store(tmp_path / "out"))
    assert [(each.state, each.key) for each in planned] == [("no input", "")] * 2
    assert planned[0].missing == (f"data: {tmp_path / 'nothing'}",)
