"""Element types of the output, and quantised models, which are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.errors import PlanError
from plan.tiny import BF16, job_of, linear, llama, llama_config, plan_of, write, write_raw

if TYPE_CHECKING:
    from pathlib import Path

NORM = "model.norm.weight"


def two(root: Path, first: Any, second: Any) -> tuple[Path, Path]:
    a = write(root / "A", llama(dtype=first), llama_config())
    return a, write(root / "B", llama(dtype=second, seed=1), llama_config())


def test_without_a_base_the_first_model_decides(tmp_path: Path) -> None:
    a, b = two(tmp_path, np.float16, BF16)
    assert {j.dtype for j in plan_of(linear(a, b)).jobs} == {"F16"}
    assert {j.dtype for j in plan_of(linear(b, a)).jobs} == {"BF16"}
    assert any("element types differ" in note for note in plan_of(linear(a, b)).notes)


def test_the_base_decides(tmp_path: Path) -> None:
    a, b = two(tmp_path, np.float16, BF16)
    text = (
        f"merge_method: task_arithmetic\nbase_model: {b}\nmodels: [{{model: {a}, parameters: {{weight: 1}}}}]"
    )
    plan = plan_of(text)
    assert {j.dtype for j in plan.jobs} == {"BF16"}
    assert [i.dtype for i in job_of(plan, NORM).inputs] == ["BF16", "F16"]
    assert plan.meta["dtype"] == {"output": "BF16", "from": str(b)}


def test_tensor_by_tensor(tmp_path: Path) -> None:
    for name, seed in (("A", 0), ("B", 1)):
        write(tmp_path / name, llama(seed=seed) | {NORM: np.ones(4, np.float32)}, llama_config())
    plan = plan_of(linear(tmp_path / "A", tmp_path / "B"))
    assert (job_of(plan, NORM).dtype, job_of(plan, "lm_head.weight").dtype) == ("F32", "BF16")


@pytest.mark.parametrize(
    ("keys", "wanted", "stated"),
    [
        ("dtype: float32", "F32", "float32"),
        ("out_dtype: float16", "F16", "float16"),
        ("dtype: float32\nout_dtype: bfloat16", "BF16", "bfloat16"),
        ("dtype: float16\nout_dtype: float32", "F32", "float32"),
    ],
)
def test_dtype_and_out_dtype(keys: str, wanted: str, stated: str, tmp_path: Path) -> None:
    a, b = two(tmp_path, BF16, BF16)
    plan = plan_of(linear(a, b, more=keys))
    assert {j.dtype for j in plan.jobs} == {wanted}
    assert plan.meta["config_json"]["torch_dtype"] == stated
    # Inputs are read as they are: `dtype` never lowers the precision of the arithmetic.
    assert {i.dtype for j in plan.jobs for i in j.inputs} == {"BF16"}


def test_configuration_without_a_dtype_is_left_alone(tmp_path: Path) -> None:
    config = {"model_type": "llama", "num_hidden_layers": 4, "tie_word_embeddings": False}
    a = write(tmp_path / "A", llama(), config)
    b = write(tmp_path / "B", llama(seed=1), config)
    assert plan_of(linear(a, b, more="dtype: float32")).meta["config_json"] == config


def test_layers_of_another_model_take_the_donors_type(tmp_path: Path) -> None:
    a, b = two(tmp_path, BF16, np.float16)
    text = (
        f"merge_method: passthrough\nslices:\n- sources: [{{model: {a}, layer_range: [0, 4]}}]\n"
        f"- sources: [{{model: {b}, layer_range: [0, 4]}}]"
    )
    plan = plan_of(text)
    assert {j.dtype for j in plan.jobs} == {"BF16"}
    assert job_of(plan, "model.layers.5.mlp.up_proj.weight").method == "cast"
    assert job_of(plan, "model.layers.2.mlp.up_proj.weight").method == "copy"


def test_types_without_arithmetic_are_compared_and_copied(tmp_path: Path) -> None:
    stored = {"e": ("F8_E8M0", [4], 4), "w": ("F4", [4, 2], 4), "f": ("F8_E4M3", [4], 4)}
    for name in "AB":
        write_raw(tmp_path / name / "model.safetensors", stored)
    plan = plan_of(linear(tmp_path / "A", tmp_path / "B"))
    assert {j.name: j.method for j in plan.jobs} == {"e": "copy_equal", "w": "copy_equal", "f": "linear"}
    assert job_of(plan, "w").nbytes == 4


@pytest.mark.parametrize(
    ("payload", "scale"),
    [
        ("l.q.weight", "l.q.weight_scale_inv"),
        ("l.q.weight", "l.q.weight_scale"),
        ("l.q.weight", "l.q.scale"),
        ("l.q.weight", "l.q.input_scale"),
        ("l.q_blocks", "l.q_scales"),
        ("l.q.weight", "l.q.weight.absmax"),
    ],
)
def test_scales_beside_a_payload_are_refused_by_name(payload: str, scale: str, tmp_path: Path) -> None:
    for name in "AB":
        write_raw(
            tmp_path / name / "model.safetensors", {payload: ("F8_E4M3", [4], 4), scale: ("F32", [1], 4)}
        )
    with pytest.raises(PlanError, match=rf"A: tensor '{payload}' in .* is quantised.*dequantise it first"):
        plan_of(linear(tmp_path / "A", tmp_path / "B"))


def test_a_learned_scale_is_no_quantiser(tmp_path: Path) -> None:
    tensors = {"l.q.weight": np.ones(4, np.float32), "l.q.scale": np.ones(4, np.float32)}
    a, b = (write(tmp_path / n, tensors) for n in "AB")
    assert {j.method for j in plan_of(linear(a, b)).jobs} == {"linear"}


def test_quantization_config_is_refused(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(), llama_config(quantization_config={"quant_method": "fp8"}))
    b = write(tmp_path / "B", llama(seed=1), llama_config())
    with pytest.raises(PlanError, match=r"A: config.json has a quantization_config \(fp8\)"):
        plan_of(linear(b, a))
