"""What each method becomes: inputs, indices, options, copies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from carrick import methods
from carrick.errors import CarrickError
from plan.tiny import job_of, linear, plan_of, trio

if TYPE_CHECKING:
    from pathlib import Path

UP = "model.layers.1.mlp.up_proj.weight"


def roles(job: object) -> list[tuple[int, bool, int | None]]:
    return [(i.source.file, i.base, i.index) for i in job.inputs]  # type: ignore[attr-defined]


def of(method: str, root: Path, parameters: str = "weight: 0.5", more: str = "") -> str:
    a, b, c = trio(root)
    return (
        f"merge_method: {method}\nbase_model: {a}\nmodels:\n- {{model: {b}, parameters: {{{parameters}}}}}\n"
        f"- {{model: {c}, parameters: {{{parameters}}}}}\n{more}"
    )


def test_base_comes_first_and_models_are_counted_without_it(tmp_path: Path) -> None:
    job = job_of(plan_of(of("ties", tmp_path)), UP)
    assert (job.method, roles(job)) == ("ties", [(0, True, None), (1, False, 0), (2, False, 1)])


@pytest.mark.parametrize(
    "name", ["ties", "dare_ties", "breadcrumbs", "della", "task_arithmetic", "model_stock"]
)
def test_options_and_parameters_are_complete(name: str, tmp_path: Path) -> None:
    method = methods.load()[name]
    text = of(name, tmp_path, "weight: 1, density: 0.5" if name != "model_stock" else "")
    job = job_of(plan_of(text), UP)
    assert set(job.options) == {p.name for p in method.scoped("global", "merge")}
    own = {p.name for p in method.scoped("model")}
    for given in job.inputs[1:]:
        assert set(given.parameters or {}) == own
    kinds = {"float": (float, int), "bool": bool, "choice": str}
    for parameter in method.scoped("global", "merge"):
        assert isinstance(job.options[parameter.name], kinds[parameter.type])
    assert "variant" not in job.options


def test_variant_is_spelled_out(tmp_path: Path) -> None:
    job = job_of(plan_of(of("ties", tmp_path, more="variant: paper")), UP)
    assert (job.options["trim_scope"], job.options["vote"], job.options["zero_vote"]) == (
        "model",
        "sum",
        "none",
    )


def test_base_listed_among_the_models_is_not_merged(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    text = (
        f"merge_method: task_arithmetic\nbase_model: {a}\nmodels:\n"
        f"- {{model: {a}, parameters: {{weight: 1}}}}\n- {{model: {b}, parameters: {{weight: 1}}}}"
    )
    plan = plan_of(text)
    assert roles(job_of(plan, UP)) == [(0, True, None), (1, False, 0)]
    assert any("weight" in note for note in plan.notes)


def test_linear_merges_every_listed_model_the_base_too(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    job = job_of(plan_of(linear(b, a, c, more=f"base_model: {a}")), UP)
    assert [(i.base, i.index) for i in job.inputs] == [(False, 0), (False, 1), (False, 2)]
    assert [i.source.file for i in job.inputs] == [1, 0, 2]


def test_weight_zero_stays(tmp_path: Path) -> None:
    plan = plan_of(of("ties", tmp_path, "weight: 0"))
    assert len(job_of(plan, UP).inputs) == 3


def test_slerp_is_base_and_other(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    text = (
        f"merge_method: slerp\nbase_model: {b}\nmodels: [{{model: {a}}}, {{model: {b}}}]\n"
        "parameters: {t: 0.25}"
    )
    job = job_of(plan_of(text), UP)
    assert (roles(job), job.options) == ([(0, True, None), (1, False, 0)], {"t": 0.25})
    with pytest.raises(CarrickError, match="slerp"):
        plan_of(of("slerp", tmp_path, "", "parameters: {t: 0.5}"))


@pytest.mark.parametrize("base", [False, True])
def test_nuslerp_with_and_without_a_base(base: bool, tmp_path: Path) -> None:
    text = of("nuslerp", tmp_path)
    if not base:
        text = "\n".join(line for line in text.splitlines() if not line.startswith("base_model"))
    inputs = job_of(plan_of(text), UP).inputs
    wanted = [(False, 0), (False, 1)]
    assert [(i.base, i.index) for i in inputs] == ([(True, None), *wanted] if base else wanted)


def test_passthrough_copies_casts_or_scales(tmp_path: Path) -> None:
    a, _, _ = trio(tmp_path)
    scale = "scale: [{filter: up_proj, value: 0.5}, {value: 1}]"
    text = f"merge_method: passthrough\nmodels: [{{model: {a}, parameters: {{{scale}}}}}]\n"
    plan = plan_of(text)
    job = job_of(plan, UP)
    assert (job.method, job.inputs[0].parameters) == ("passthrough", {"scale": 0.5})
    other = job_of(plan, "model.norm.weight")
    assert (other.method, other.options, other.inputs[0].parameters) == ("copy", {}, None)
    assert job_of(plan_of(text + "out_dtype: float32"), "model.norm.weight").method == "cast"


def test_cancelling_weights_are_noted(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    text = (
        f"merge_method: task_arithmetic\nbase_model: {a}\nparameters: {{normalize: true}}\nmodels:\n"
        f"- {{model: {b}, parameters: {{weight: 1}}}}\n- {{model: {c}, parameters: {{weight: -1}}}}"
    )
    assert any("add up to 0" in note for note in plan_of(text).notes)
    assert not any("add up to 0" in n for n in plan_of(text.replace("weight: -1", "weight: 1")).notes)
    assert not any("add up to 0" in n for n in plan_of(text.replace("true", "false")).notes)


def test_trim_over_the_model_needs_one_density(tmp_path: Path) -> None:
    text = of("ties", tmp_path, "weight: 1, density: [0.2, 0.8]", "parameters: {trim_scope: model}")
    with pytest.raises(CarrickError, match="density"):
        plan_of(text)
    plan_of(text.replace("[0.2, 0.8]", "0.2"))


def test_seed(tmp_path: Path) -> None:
    text = of("dare_ties", tmp_path, "weight: 1, density: 0.5")
    assert plan_of(text).seed == 0
    assert plan_of(text + "seed: 7").seed == 7
    assert plan_of(text + "seed: 7", seed=9).seed == 9
