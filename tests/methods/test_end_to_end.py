"""Every method through `carrick.merge`: a configuration, model folders in, a model folder out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from methods import harness
from methods.case import TASK_VECTOR, Case
from oracles.dtypes import NUMPY, Array
from oracles.files import write_model

if TYPE_CHECKING:
    from pathlib import Path

SHAPES: dict[str, tuple[int, ...]] = {
    "model.embed_tokens.weight": (37, 8),
    "model.layers.0.mlp.up_proj.weight": (24, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 24),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.1.mlp.up_proj.weight": (24, 8),
    "model.layers.1.mlp.down_proj.weight": (8, 24),
    "model.layers.1.input_layernorm.weight": (8,),
    "model.norm.weight": (8,),
    "model.scale": (1,),
}


def model(seed: int, dtype: str, base: dict[str, Array] | None = None) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in SHAPES.items():
        x = rng.standard_normal(shape)
        tensors[name] = (x if base is None else base[name].astype(np.float64) + 0.1 * x).astype(NUMPY[dtype])
    return tensors


PARAMETERS: dict[str, dict[str, Any]] = {
    "task_arithmetic": {"weight": 0.6},
    "breadcrumbs": {"weight": 0.6, "density": 0.7, "gamma": 0.1},
    "breadcrumbs_ties": {"weight": 0.6, "density": 0.7, "gamma": 0.1},
    "della": {"weight": 0.6, "density": 0.5, "epsilon": 0.2},
    "della_linear": {"weight": 0.6, "density": 0.5, "epsilon": 0.2},
}


def case_of(method: str, dtype: str) -> Case:
    base = model(0, dtype)
    rest = [model(seed, dtype, base) for seed in (1, 2, 3)]
    if method in TASK_VECTOR:
        first = PARAMETERS.get(method, {"weight": 0.6, "density": 0.5})
        return Case(method, rest, base, [first, first | {"weight": -0.4}, first | {"weight": 1.0}], seed=42)
    if method == "slerp":
        return Case(method, rest[:1], base, options={"t": 0.3})
    if method == "nuslerp":
        return Case(method, rest[:2], base, [{"weight": 0.3}, {"weight": 0.9}])
    if method == "model_stock":
        return Case(method, rest, base)
    if method == "passthrough":
        return Case(method, rest[:1], None, [{"scale": 0.5}])
    return Case("linear", rest, None, [{"weight": w} for w in (0.2, 0.5, 0.9)])


ALL = [*TASK_VECTOR, "slerp", "nuslerp", "model_stock", "passthrough", "linear"]


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("method", ALL)
def test_methods(method: str, dtype: str, tmp_path: Path) -> None:
    case = case_of(method, dtype)
    harness.check(harness.run(case, tmp_path / "run", shards=2), case.expected(), case)


@pytest.mark.parametrize("variant", ["mergekit", "peft", "paper", "reference"])
def test_variants_of_ties(variant: str, tmp_path: Path) -> None:
    case = case_of("ties", "BF16")
    case.options = {"variant": variant}
    harness.check(harness.run(case, tmp_path / "run", shards=3), case.expected(), case)


def test_models_of_different_types_and_an_output_type(tmp_path: Path) -> None:
    base = model(0, "BF16")
    rest = [model(1, "F16", base), model(2, "F32", base), model(3, "F8_E4M3", base)]
    case = Case("ties", rest, base, [{"weight": 1.0, "density": 0.4}] * 3)
    got = harness.run(case, tmp_path / "run", settings={"dtype": "float32", "out_dtype": "float16"})
    harness.check(got, case.expected(), case, "F16")


def test_a_gradient_is_a_parameter_of_its_layer(tmp_path: Path) -> None:
    """Embeddings take the first element of the list, norm and head the last."""
    base, other = model(0, "F32"), model(1, "F32")
    folders = [write_model(tmp_path / name, tensors) for name, tensors in (("base", base), ("other", other))]
    config = {
        "merge_method": "slerp",
        "base_model": str(folders[0]),
        "models": [{"model": str(folder)} for folder in folders],
        "parameters": {"t": [0.0, 1.0]},
    }
    carrick.merge(config, tmp_path / "out")
    got = harness.read_model(tmp_path / "out")
    for name, tensor in got.items():
        first = name.startswith(("model.embed", "model.layers.0."))
        if name != "model.scale":
            np.testing.assert_allclose(tensor, (base if first else other)[name], rtol=2.0**-22, err_msg=name)


def test_integers_are_copied_and_must_agree(tmp_path: Path) -> None:
    case = case_of("linear", "F32")
    ids = np.arange(12, dtype=np.int64).reshape(1, 12)
    for tensors in case.models:
        tensors["position_ids"] = ids
    got = harness.run(case, tmp_path / "run")
    assert got["position_ids"].dtype == np.int64
    assert np.array_equal(got["position_ids"], ids)
    case.models[2]["position_ids"] = ids + 1
    with pytest.raises(carrick.CarrickError, match="position_ids"):
        harness.run(case, tmp_path / "differs")
    assert not (tmp_path / "differs" / "out").exists()


def test_the_record_names_the_seed_and_every_checksum(tmp_path: Path) -> None:
    case = case_of("dare_ties", "BF16")
    config = harness.config_of(case, tmp_path)
    carrick.merge(config, tmp_path / "out", seed=42)
    text = (tmp_path / "out" / "carrick.json").read_text()
    assert str(tmp_path) not in text
    assert json.loads(text)["seed"] == 42
    carrick.merge(config, tmp_path / "again", seed=42)
    assert (tmp_path / "again" / "carrick.json").read_text() == text
