"""What `carrick plan` shows."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from rich.console import Console

from carrick import merge
from carrick.documents import Series
from carrick.plan import estimate_of, plan_text
from carrick.plan.estimate import passes_of
from plan.tiny import job_of, linear, llama, llama_config, plan_of, trio, write

if TYPE_CHECKING:
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


@pytest.mark.parametrize(
    ("method", "parameters", "passes"),
    [
        ("ties", "density: 0.9", 2),
        ("ties", "density: 1", 1),
        ("ties", "density: 0", 1),
        ("ties", "density: 0.9, rescale: l1", 3),
        ("ties", "density: 0.9, zero_vote: majority", 3),
        ("ties", "density: 1, zero_vote: majority", 2),
        ("dare_ties", "density: 0.5", 1),
        ("dare_ties", "density: 0.5, zero_vote: majority", 2),
        ("breadcrumbs", "density: 0.5, gamma: 0.1", 2),
        ("della", "density: 0.5, epsilon: 0.1", 1),
        ("model_stock", "", 2),
        ("model_stock", "filter_wise: true", 1),
        ("nuslerp", "", 2),
        ("nuslerp", "nuslerp_flatten: false", 1),
        ("nuslerp", "nuslerp_flatten: false, nuslerp_row_wise: true", 2),
        ("task_arithmetic", "", 1),
    ],
)
def test_passes_are_those_of_the_engine(tmp_path: Path, method: str, parameters: str, passes: int) -> None:
    a, b, c = trio(tmp_path)
    weight = "" if method == "model_stock" else "parameters: {weight: 1}, "
    plan = plan_of(
        f"merge_method: {method}\nbase_model: {a}\nparameters: {{{parameters}}}\n"
        f"models: [{{{weight}model: {b}}}, {{{weight}model: {c}}}]\ndtype: float32"
    )
    assert passes_of([job_of(plan, UP)], len(plan.files)) == [passes]
    assert merge(None, tmp_path / "out", plan=plan).bytes_read == estimate_of(plan).bytes_read


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


def test_a_tokenizer_that_is_not_there_is_not_promised(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    assert f"tokenizer    none: {a}" in shown(plan_of(linear(a, b)))
    (a / "tokenizer.json").write_text("{}")
    assert f"tokenizer    from {a}" in shown(plan_of(linear(a, b)))


def test_a_base_of_configuration_alone_is_called_so(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    text = shown(plan_of(f"{linear(a, b)}\nbase_model: {c}"))
    assert f"config  {c}"[:30] in text
    assert "donor" not in text


def test_what_is_copied_is_told_by_model(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    swap = f"merge_method: layer_swap\nbase_model: {a}\nmodels: [{{model: {b}}}, {{model: {c}}}]\nlayers: {{last: 1}}"
    plan = plan_of(swap)
    of_c = sum(c.name in plan.files[job.inputs[0].places(job.elements)[0][0].file].path for job in plan.jobs)
    said = " ".join(shown(plan).split())
    assert 0 < of_c < len(plan.jobs)
    assert f"copied {len(plan.jobs) - of_c} from {b}".replace(" ", "") in said.replace(" ", "")
    assert f"{of_c} from {c} (tensors)".replace(" ", "") in said.replace(" ", "")


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


def test_a_named_document_is_named(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    (tmp_path / "two.yml").write_text(f"name: half\n{linear(a, b)}\n---\n{linear(Path('half'), c)}")
    first, last = Series(tmp_path / "two.yml", None).plans()
    assert ["document", "half"] in [line.split() for line in shown(first).splitlines()]
    assert not any(line.startswith("document") for line in shown(last).splitlines())
