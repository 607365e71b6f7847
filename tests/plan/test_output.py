"""Where the output may go, and saved plans."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from carrick.config import loads
from carrick.errors import PlanError
from carrick.plan import build_plan, check_output_of_plan, load_plan, parse_plan, planned_checkpoint
from plan.tiny import linear, plan_of, trio


def test_out_may_not_be_an_input_lie_in_one_or_around_one(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path / "models")
    for out, message in (
        (a, "is the input"),
        (b, "is the input"),
        (b / "merged", "lies in the input folder"),
        (tmp_path / "models", "lies in it"),
        (tmp_path, "lies in it"),
        (tmp_path / "models" / "X" / ".." / "A", "is the input"),
    ):
        with pytest.raises(PlanError, match=message):
            plan_of(linear(a, b), out)
    plan_of(linear(a, b), tmp_path / "models" / "AB")
    assert not (tmp_path / "models" / "AB").exists()


def test_out_may_not_reach_an_input_by_a_link(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    (tmp_path / "link").symlink_to(a)
    with pytest.raises(PlanError, match="is the input"):
        plan_of(linear(a, b), tmp_path / "link")


def test_out_may_not_hold_the_file_that_an_input_links_to(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path / "models")
    blobs = tmp_path / "blobs" / "deep"
    blobs.mkdir(parents=True)
    (a / "model.safetensors").rename(blobs / "0123")
    (a / "model.safetensors").symlink_to(blobs / "0123")
    with pytest.raises(PlanError, match="lies in it"):
        plan_of(linear(a, b), tmp_path / "blobs")


def test_a_single_file_may_have_neighbours(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    first, second = (
        Path(shutil.copy(p / "model.safetensors", tmp_path / f"{p.name}.safetensors")) for p in (a, b)
    )
    plan_of(linear(first, second), tmp_path / "merged")
    with pytest.raises(PlanError, match="lies in it"):
        plan_of(linear(first, second), tmp_path)


def test_out_may_not_be_the_source_of_the_tokenizer(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path / "models")
    text = linear(a, b, more=f"tokenizer_source: {c}")
    for out, message in (
        (c, "is the input"),
        (c / "x", "lies in the input"),
        (tmp_path / "models", "lies in it"),
    ):
        with pytest.raises(PlanError, match=message):
            plan_of(text, out)
    with pytest.raises(PlanError, match="is the input"):
        check_output_of_plan(parse_plan(plan_of(text).to_json()), c)
    file = c / "model.safetensors"
    text = linear(a, b, more=f"tokenizer_source: {file}")
    with pytest.raises(PlanError, match=f"the input {file} lies in it"):
        plan_of(text, c)
    plan_of(text, c / "beside")


def test_not_enough_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b, _ = trio(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=10**6))
    with pytest.raises(PlanError, match=rf"{tmp_path}: 0.03 GB are needed and 0.00 GB are free"):
        plan_of(linear(a, b), tmp_path / "out")
    partial = tmp_path / "out.carrick-partial"
    partial.mkdir()
    (partial / "model.safetensors.part").write_bytes(bytes(40 * 10**6))
    plan_of(linear(a, b), tmp_path / "out")  # what an interrupted run wrote is room for its continuation


def test_saved_plans_come_back_the_same(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    plan = plan_of(linear(a, b), shard_size=300)
    path = tmp_path / "plan.json"
    path.write_text(plan.to_json())
    again = load_plan(path)
    assert again.to_json() == plan.to_json()
    given = [i.as_dict() for i in again.jobs[0].inputs]
    assert [(i["index"], i["parameters"]) for i in given] == [(0, {"weight": 1.0}), (1, {"weight": 1.0})]
    assert not any("base" in i for i in given)
    assert again.jobs[0].shape == plan.jobs[0].shape
    with pytest.raises(PlanError, match="is the input"):
        check_output_of_plan(again, a)


def test_indented_json_is_read_as_well(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    plan = plan_of(linear(a, b))
    assert parse_plan(json.dumps(plan.as_dict(), indent=2)).to_json() == plan.to_json()


def edit(path: str, value: Any) -> Any:
    def change(plan: dict[str, Any]) -> None:
        *keys, last = path.split(".")
        for key in keys:
            plan = plan[int(key)] if key.isdigit() else plan[key]  # type: ignore[assignment]
        if value is None:
            del plan[last]
        else:
            plan[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("format", "x", "is not a plan"),
        ("version", 2, "of version 2"),
        ("jobs", None, "lacks 'jobs'"),
        ("files.0.size", -1, "-1 is not a whole number"),
        ("files.0.size", True, "True is not a whole number"),
        ("jobs.0.dtype", "F3", "'F3' is no element type"),
        ("jobs.1.offset", 2, "does not lie where the one before it ends"),
        ("jobs.0.shard", 9, "does not lie where"),
        ("jobs.1.name", "lm_head.weight", "written twice"),
        ("jobs.0.inputs.0.file", 7, "lies outside its file"),
        ("jobs.0.inputs.0.offset", 10**9, "lies outside its file"),
        ("jobs.0.method.options", [], "are not an object"),
        ("shards.0.data_bytes", 1, "has 1 bytes and its tensors"),
        ("shards.0.name", "../x.safetensors", "not the name of an output file"),
        ("shards.0.name", "model.bin", "not the name of an output file"),
        ("seed", None, "lacks 'seed'"),
    ],
)
def test_damaged_plans_are_refused(path: str, value: Any, message: str, tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    content = plan_of(linear(a, b)).as_dict()
    content = json.loads(json.dumps(content))
    assert content["jobs"][0]["name"] == "lm_head.weight"
    edit(path, value)(content)
    with pytest.raises(PlanError, match=message):
        parse_plan(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": 1}'])
def test_what_is_no_plan(text: str, tmp_path: Path) -> None:
    (tmp_path / "p").write_text(text)
    with pytest.raises(PlanError, match="is not a plan"):
        load_plan(tmp_path / "p")
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path / "none")


def test_intermediates_can_be_planned_before_they_exist(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    first, last = loads(
        f"name: mid\n{linear(a, b)}\n---\nmerge_method: linear\nmodels:\n"
        f"- {{model: mid, parameters: {{weight: 1}}}}\n- {{model: {c}, parameters: {{weight: 1}}}}"
    )
    planned = planned_checkpoint(build_plan(first, shard_size=300), tmp_path / "mid", "mid")
    plan = build_plan(last, intermediates={"mid": planned})
    assert len(plan.jobs) == len(planned.tensors)
    assert plan.meta["config_json"]["model_type"] == "llama"
    assert plan.files[0].path.startswith(str(tmp_path / "mid"))
