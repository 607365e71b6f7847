"""Models with adapters as inputs: saved plans, records, texts and output folders."""

from __future__ import annotations

import json
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console
from safetensors.numpy import load_file

import carrick
from adapters.handmade import adapter
from carrick.errors import PlanError
from carrick.plan import load_plan, plan_text
from plan.adapted_models import World, ties_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_saved_plan_runs(world: World) -> None:
    config = ties_of(world, world.put_on)
    expected = world.merge(config, "direct")
    (world.root / "plan.json").write_text(carrick.plan(config).to_json())
    plan = load_plan(world.root / "plan.json")
    carrick.merge(None, world.root / "planned", plan=plan)
    planned = load_file(world.root / "planned" / "model.safetensors")
    assert all(np.array_equal(planned[name], expected[name]) for name in expected)
    records = [json.loads((world.root / name / "carrick.json").read_text()) for name in ("direct", "planned")]
    assert records[0] == records[1]


def test_files_of_adapters_are_recorded(world: World) -> None:
    config = ties_of(world, [f"{world.put_on[0]}:0.5", world.put_on[1]])
    carrick.merge(config, world.root / "out", hash_inputs=True)
    record = json.loads((world.root / "out" / "carrick.json").read_text())
    base, first, second = record["inputs"]
    assert "adapters" not in base
    assert [(one["name"], one["weight"]) for one in first["adapters"] + second["adapters"]] == [
        ("a0", 0.5),
        ("a1", 1.0),
    ]
    (file,) = first["adapters"][0]["files"]
    path = world.adapters[0] / "adapter_model.safetensors"
    assert (file["name"], file["size"]) == ("adapter_model.safetensors", path.stat().st_size)
    assert {"header_hash", "content_hash"} < file.keys()
    assert [one["name"] for one in first["files"]] == ["model.safetensors"]
    card = (world.root / "out" / "README.md").read_text()
    assert "| X+a0:0.5 | model |" in card
    assert '- "X"\n- "a0"\n- "a1"\n' in card
    assert str(world.root) not in card + json.dumps(record)


def test_a_changed_adapter_is_another_plan(world: World) -> None:
    config = {"merge_method": "passthrough", "models": [{"model": world.put_on[0]}]}
    plan = carrick.plan(config)
    adapter(3).write(world.adapters[0])
    with pytest.raises(carrick.CarrickError, match=r"a0/adapter_model\.safetensors.*plan again"):
        carrick.merge(None, world.root / "out", plan=plan)
    assert not list(world.root.glob("out*"))


def test_the_text_shows_adapters(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(world.root)
    text = StringIO()
    models = [{"model": model, "parameters": {"weight": 1}} for model in ("X+a0:0.5", "X+a1")]
    plan = carrick.plan({"merge_method": "ties", "base_model": "X", "models": models})
    Console(width=100, file=text).print(plan_text(plan))
    lines = [line for line in text.getvalue().splitlines() if line.startswith("+ adapter")]
    assert [line.split()[2:-2] for line in lines] == [
        ["a0", "×", "0.5", "rank", "2", "F32"],
        ["a1", "rank", "3", "F32"],
    ]


@pytest.mark.parametrize("where", ["a0", "a0/merged"])
def test_out_may_not_be_an_adapters_folder(where: str, world: World) -> None:
    with pytest.raises(PlanError, match="a0"):
        carrick.plan(ties_of(world, world.put_on), world.root / where)
