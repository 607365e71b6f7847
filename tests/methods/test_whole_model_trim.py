"""A trim over the whole model, of which some tensors come as task vectors and others as weights."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import carrick

# More entries than are looked at one by one.
SHAPES = {"a.weight": (40, 30), "b.q.weight": (500, 300)}


@pytest.fixture
def models(tmp_path):
    """A base, an adapter whose only module keeps the norms of its rows (DoRA), and a fine-tune."""
    rng = np.random.default_rng(5)
    base = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()}
    tuned = {name: x + 0.01 * rng.standard_normal(x.shape).astype(np.float32) for name, x in base.items()}
    for name, tensors in (("base", base), ("tuned", tuned)):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "model.safetensors")
    rows, columns = SHAPES["b.q.weight"]
    key = "base_model.model.b.q"
    factors = {
        f"{key}.lora_A.weight": 0.1 * rng.standard_normal((3, columns)).astype(np.float32),
        f"{key}.lora_B.weight": 0.1 * rng.standard_normal((rows, 3)).astype(np.float32),
        f"{key}.lora_magnitude_vector": rng.uniform(16.0, 18.0, rows).astype(np.float32),
    }
    (tmp_path / "dora").mkdir()
    save_file(factors, tmp_path / "dora" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 3, "lora_alpha": 3, "use_dora": True, "target_modules": ["q"]}
    (tmp_path / "dora" / "adapter_config.json").write_text(json.dumps(config))
    return tmp_path


def merged(root, first, out):
    parameters = {"weight": 1.0, "density": 0.2}
    config = {
        "merge_method": "ties",
        "base_model": str(root / "base"),
        "models": [{"model": str(model), "parameters": parameters} for model in (first, root / "tuned")],
        "parameters": {"trim_scope": "model"},
        "dtype": "float32",
    }
    carrick.merge(config, root / out)
    return load_file(root / out / "model.safetensors")


def test_weights_and_task_vectors_share_one_threshold(models):
    """The first tensor in the order of names is not changed by the adapter: a task vector of zeros."""
    carrick.adapters.apply(models / "base", models / "dora", models / "folded")
    found = merged(models, f"{models / 'base'}+{models / 'dora'}", "described")
    wanted = merged(models, models / "folded", "stored")
    for name in SHAPES:
        np.testing.assert_array_equal(found[name], wanted[name])
    read = {name: load_file(models / name / "model.safetensors") for name in ("base", "folded", "tuned")}
    flat = {name: np.concatenate([t[n].ravel() for n in SHAPES]) for name, t in read.items()}
    deltas = [(flat[name] - flat["base"]).astype(np.float64) for name in ("folded", "tuned")]
    kept = [np.where(np.abs(d) >= np.sort(np.abs(d))[-round(0.2 * d.size)], d, 0.0) for d in deltas]
    elected = np.where(np.sum(kept, axis=0) < 0, -1.0, 1.0)
    agree = [np.where(d * elected > 0, d, 0.0) for d in kept]
    count = np.maximum(sum((d != 0).astype(int) for d in agree), 1)
    result = flat["base"] + sum(agree) / count
    got = np.concatenate([found[name].ravel() for name in SHAPES])
    np.testing.assert_allclose(got, result, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("density", (0.2, 0.4)),
        ("kept_count", ("floor", "at_least_one")),
        ("at_threshold", ("all", "lowest_index")),
    ],
)
def test_one_trim_has_one_value_of_each_number(name, values, models):
    """Otherwise those of the first tensor would hold for all."""
    config = {
        "merge_method": "ties",
        "base_model": str(models / "base"),
        "models": [{"model": str(models / "tuned"), "parameters": {"weight": 1.0}}],
        "parameters": {
            "trim_scope": "model",
            "density": 0.3,
            name: [{"filter": "a.weight", "value": values[0]}, {"value": values[1]}],
        },
    }
    with pytest.raises(carrick.ConfigError, match=f"`{name}` cannot differ between"):
        carrick.merge(config, models / "out", dry_run=True)
    config["parameters"]["trim_scope"] = "tensor"
    carrick.merge(config, models / "out")
