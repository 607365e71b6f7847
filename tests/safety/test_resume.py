"""Interrupted runs: what is finished is kept, what is not is made again, the bytes are those of one run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import carrick
from carrick import _core
from methods import engine
from safety.digests import digest
from safety.large import ties_config
from safety.workload import cases

if TYPE_CHECKING:
    from pathlib import Path

METHODS = ["linear", "ties", "ties_reference", "ties_l1", "dare_ties", "della", "model_stock"]


def execute(plan: str, partial: Path) -> int:
    report = json.loads(_core.execute(plan, str(partial), json.dumps({"threads": 2}), None))
    return int(report["resumed_tensors"])


def commit(plan: str, partial: Path, out: Path) -> str:
    _core.commit(str(partial), str(out), [shard["name"] for shard in json.loads(plan)["shards"]], False)
    return digest(out)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("torn", [False, True])
def test_a_journal_that_ends_early(method: str, torn: bool, tmp_path: Path) -> None:
    """A crash: half of the journal (its last line torn), and rubbish where nothing was finished."""
    plan = engine.plan_of(cases()[method], tmp_path)
    partial = tmp_path / "out.carrick-partial"
    assert execute(plan, partial) == 0
    whole = commit(plan, partial, tmp_path / "whole")

    assert execute(plan, partial) == 0
    journal = partial / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    kept = 1 + (len(lines) - 1) // 2
    finished = {json.loads(line)["job"] for line in lines[1:kept]}
    journal.write_bytes(b"".join(lines[:kept]) + (lines[kept][:-5] if torn else b""))
    spoil(json.loads(plan), partial, finished)

    assert execute(plan, partial) == len(finished) > 0
    assert commit(plan, partial, tmp_path / "resumed") == whole


def spoil(plan: dict[str, object], partial: Path, finished: set[int]) -> None:
    """Overwrite the bytes of every tensor that the journal does not call finished."""
    for number, job in enumerate(plan["jobs"]):  # type: ignore[arg-type, var-annotated]
        if number in finished:
            continue
        path = partial / (plan["shards"][job["shard"]]["name"] + ".part")  # type: ignore[index]
        with path.open("r+b") as file:
            header = int.from_bytes(file.read(8), "little")
            info = json.loads(file.read(header))[job["name"]]
            begin, end = info["data_offsets"]
            file.seek(8 + header + begin)
            file.write(b"\xa5" * (end - begin))


def test_another_plan_starts_afresh(tmp_path: Path) -> None:
    first, second = (engine.plan_of(cases()[name], folder(tmp_path, name)) for name in ("ties", "linear"))
    partial = tmp_path / "out.carrick-partial"
    execute(first, partial)
    assert execute(second, partial) == 0
    got = commit(second, partial, tmp_path / "out")
    execute(second, partial)
    assert commit(second, partial, tmp_path / "again") == got


def test_a_changed_input_starts_afresh(tmp_path: Path) -> None:
    case = cases()["linear"]
    partial = tmp_path / "out.carrick-partial"
    execute(engine.plan_of(case, tmp_path), partial)
    plan = engine.plan_of(case, tmp_path)  # the same bytes, written again: another mtime
    assert execute(plan, partial) == 0


def folder(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def test_an_exception_from_the_progress_callback_stops_the_run(tmp_path: Path) -> None:
    """As Ctrl-C does; the same call then goes on."""
    config = ties_config(tmp_path, {f"model.layers.{i}.mlp.up_proj.weight": 1 << 22 for i in range(12)})

    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        carrick.merge(config, tmp_path / "out", threads=1, progress=stop)
    assert not (tmp_path / "out").exists()
    partial = tmp_path / "out.carrick-partial"
    assert not list(partial.glob("*.safetensors"))
    carrick.merge(config, tmp_path / "out", threads=2)
    carrick.merge(config, tmp_path / "whole", threads=2)
    assert digest(tmp_path / "out") == digest(tmp_path / "whole")
