"""Tensors matched by name, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from carrick.errors import ConfigError, PlanError
from plan.tiny import BF16, job_of, linear, llama, llama_config, plan_of, trio, write

if TYPE_CHECKING:
    from pathlib import Path

POSITIONS = "model.embeddings.position_ids"


def pair(root: Path, first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> tuple[Path, Path]:
    return write(root / "A", llama() | first, llama_config()), write(
        root / "B", llama() | second, llama_config()
    )


def test_every_tensor_once_whatever_its_name(tmp_path: Path) -> None:
    odd = {"model.layers.0.self_attn.q_proj.bias": np.ones(4, BF16), "anything": np.ones((2, 3), np.float32)}
    a, b = pair(tmp_path, odd, odd)
    plan = plan_of(linear(a, b))
    assert sorted(j.name for j in plan.jobs) == sorted(llama() | odd)
    assert plan.meta["unmatched"] == []


def test_missing_tensor_is_named_with_both_models(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {"extra": np.ones(2, np.float32)}, {})
    with pytest.raises(PlanError, match=rf"'extra' is in {a} but not in {b}.*extra_tensors: base"):
        plan_of(linear(a, b))
    with pytest.raises(PlanError, match=rf"'extra' is in {a} but not in {b}"):
        plan_of(linear(b, a))


def test_extra_tensors_first_copies_what_any_model_has(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {"x": np.ones(2, np.float32)}, {"y": np.ones(3, np.float32)})
    plan = plan_of(linear(a, b, more="extra_tensors: first"))
    assert [(job_of(plan, n).method, job_of(plan, n).inputs[0].source.file) for n in "xy"] == [
        ("copy", 0),
        ("copy", 1),
    ]
    assert {(u["tensor"], u["action"]) for u in plan.meta["unmatched"]} == {
        ("x", f"copied from {a}"),
        ("y", f"copied from {b}"),
    }


def test_extra_tensors_base_keeps_the_bases_tensors(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {"x": np.ones(2, np.float32)}, {"y": np.ones(3, np.float32)})
    plan = plan_of(linear(a, b, more="extra_tensors: base"))
    names = {j.name for j in plan.jobs}
    assert "x" in names
    assert "y" not in names
    assert {(u["tensor"], u["action"]) for u in plan.meta["unmatched"]} == {
        ("x", f"copied from {a}"),
        ("y", "left out"),
    }


def test_shape_mismatch_names_tensor_shapes_and_files(tmp_path: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    a, b = pair(tmp_path, {}, {name: np.zeros((9, 4), BF16)})
    with pytest.raises(PlanError) as refused:
        plan_of(linear(a, b))
    for part in (name, "[8, 4]", "[9, 4]", f"{a}/model.safetensors", f"{b}/model.safetensors"):
        assert part in str(refused.value)
    assert "tokenizer" not in str(refused.value)


def test_other_vocabularies_say_that_a_union_is_not_supported(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(vocab=8), llama_config())
    b = write(tmp_path / "B", llama(vocab=10), llama_config())
    with pytest.raises(PlanError, match=r"\[8, 4\].*\[10, 4\].*union of tokenizers is not supported yet"):
        plan_of(linear(a, b))


def test_integers_are_compared_and_copied(tmp_path: Path) -> None:
    extra = {POSITIONS: np.arange(6, dtype=np.int64)[None]}
    a, b = pair(tmp_path, extra, extra)
    job = job_of(plan_of(linear(a, b, more="dtype: float32")), POSITIONS)
    assert (job.method, job.dtype, [i.source.file for i in job.inputs]) == ("copy_equal", "I64", [0, 1])


def test_floats_do_not_mix_with_integers(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {"x": np.zeros(2, np.int32)}, {"x": np.zeros(2, np.float32)})
    with pytest.raises(PlanError, match=r"'x' is I32 in .*A.* and F32 in .*B.*fraction"):
        plan_of(linear(a, b))


def test_integers_of_other_widths_are_refused(tmp_path: Path) -> None:
    a, b = pair(tmp_path, {"x": np.zeros(2, np.int32)}, {"x": np.zeros(2, np.int64)})
    with pytest.raises(PlanError, match=r"'x' is I32 in .* and I64"):
        plan_of(linear(a, b))


def test_donor_of_configuration_alone_gives_no_weights(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    write(c, {"only.here": np.ones(2, np.float32)} | llama(seed=2), llama_config())
    plan = plan_of(linear(a, b, more=f"base_model: {c}"))
    assert "only.here" not in {j.name for j in plan.jobs}
    assert plan.meta["donor"]["ref"] == str(c)
    assert {i.source.file for j in plan.jobs for i in j.inputs} == {1, 2}


def test_gradient_ends(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path, layers=5)
    plan = plan_of(
        f"merge_method: task_arithmetic\nbase_model: {a}\nmodels:\n"
        f"- {{model: {b}, parameters: {{weight: [1, 3, 5]}}}}\n- {{model: {c}, parameters: {{weight: 1}}}}"
    )

    def weight(name: str) -> object:
        return (job_of(plan, name).inputs[1].parameters or {})["weight"]

    assert weight("model.embed_tokens.weight") == 1
    assert [weight(f"model.layers.{n}.mlp.up_proj.weight") for n in range(5)] == [1, 2, 3, 4, 5]
    assert weight("model.norm.weight") == 5
    assert weight("lm_head.weight") == 5


def test_a_gradient_needs_layers(tmp_path: Path) -> None:
    flat = {"first.weight": np.ones(4, np.float32), "second.weight": np.ones(4, np.float32)}
    a, b = write(tmp_path / "A", flat, {}), write(tmp_path / "B", flat, {})
    with pytest.raises(ConfigError, match="a gradient runs over layers"):
        plan_of(linear(a, b, more="parameters: {weight: [0, 1]}"))
    filtered = "parameters: {weight: [{filter: first, value: 1}, {value: 2}]}"
    models = "".join(f"- {{model: {model}}}\n" for model in (a, b))
    plan = plan_of(f"merge_method: linear\nmodels:\n{models}{filtered}")
    assert (job_of(plan, "second.weight").inputs[0].parameters or {})["weight"] == 2


def test_same_inputs_same_plan(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    assert plan_of(linear(a, b)).to_json() == plan_of(linear(a, b)).to_json()


@pytest.mark.parametrize(
    ("unlike", "words"),
    [
        ({"vocab": 10}, r"has the shape \[8, 4\].* has \[10, 4\]"),
        ({"hidden": 8}, "has the shape"),
        ({"layers": 6}, "has 4 layers and .* has 6"),
    ],
)
def test_a_donor_of_configuration_fits_the_models(unlike: dict[str, int], words: str, tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    write(c, llama(**unlike), llama_config())
    with pytest.raises(PlanError, match=words) as caught:
        plan_of(linear(a, b, more=f"base_model: {c}"))
    assert "`base_model` gives config.json" in str(caught.value)


@pytest.mark.parametrize("policy", ["base", "first"])
def test_names_that_nothing_shares(policy: str, tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    bare = {name.removeprefix("model."): tensor for name, tensor in llama(head=False).items()}
    write(b, bare, llama_config())
    write(a, llama(head=False), llama_config())
    with pytest.raises(PlanError, match="no tensor has the same name in all models"):
        plan_of(linear(a, b, more=f"extra_tensors: {policy}"))
