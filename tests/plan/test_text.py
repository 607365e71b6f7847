"""What `carrick plan` shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from carrick.plan import estimate_of, plan_text
from carrick.plan.estimate import passes_of
from plan.tiny import job_of, linear, llama, llama_config, plan_of, trio, write

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.plan import Plan

UP = "model.layers.1.mlp.up_proj.weight"


def shown(plan: Plan, out: Path | None = None) -> str:
    stream = io.StringIO()
    Console(file=stream, width=100).print(plan_text(plan, out))
    return stream.getvalue()


def ties(root: Path, density: str) -> Plan:
    a, b, c = trio(root)
    return plan_of(
        f"merge_method: ties\nbase_model: {a}\nparameters: {{weight: 1, density: {density}}}\n"
        f"models: [{{model: {b}}}, {{model: {c}}}]\ndtype: float32"
    )


def test_bytes_are_counted_by_method_and_pass(tmp_path: Path) -> None:
    plan = ties(tmp_path, "0.5")
    elements = sum(v.size for v in llama().values())
    cost = estimate_of(plan)
    assert (cost.bytes_read, cost.bytes_written) == (2 * 3 * 2 * elements, 4 * elements)
    assert [(s.method, s.tensors, s.passes) for s in cost.by_method] == [("ties", 23, 2)]
    assert cost.peak_bytes > 0


def test_density_one_needs_one_pass(tmp_path: Path) -> None:
    assert passes_of(job_of(ties(tmp_path, "1"), UP)) == 1
    assert passes_of(job_of(ties(tmp_path, "0.9"), UP)) == 2


def test_everything_a_user_asks_for_is_there(tmp_path: Path) -> None:
    text = shown(ties(tmp_path, "0.5"), tmp_path / "out")
    for part in (
        "ties",
        "23",
        "passes",
        "peak memory",
        "free disk",
        "F32, from `dtype`",
        "torch_dtype:",
        "seed",
    ):
        assert part in text
    assert max(len(line) for line in text.splitlines()) <= 100


def test_unmatched_tensors_and_notes_are_listed(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama() | {"only.in.a": np.ones(2, np.float32)}, llama_config())
    b = write(tmp_path / "B", llama(dtype=np.float16), llama_config())
    text = shown(plan_of(linear(a, b, more="extra_tensors: first")))
    assert "only.in.a" in text
    assert "copied from" in text
    assert "element types differ" in text


@pytest.mark.parametrize("name", ["n" * 300, "[red]x[/red]"])
def test_hostile_names_do_not_break_the_table(name: str, tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama() | {name: np.ones(2, np.float32)}, llama_config())
    b = write(tmp_path / "B", llama(), llama_config())
    text = shown(plan_of(linear(a, b, more="extra_tensors: first")))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert name[:20] in text
