"""Adapters in memory beside those in folders."""

from __future__ import annotations

import numpy as np
import pytest

import carrick

KEY = "base_model.model.model.layers.0.q_proj.lora_{}.weight"
CONFIG = {"peft_type": "LORA", "r": 1, "lora_alpha": 1}


def state(row):
    return {KEY.format("A"): np.array([row], np.float32), KEY.format("B"): np.ones((2, 1), np.float32)}


def test_pairs_are_adapters(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    one, other = (state([1.0, 1.0]), CONFIG), (state([0.0, 1.0]), CONFIG)
    found = carrick.adapters.similarity([one, other])
    assert found.kind == "adapters"
    assert found.models == ["model-1", "model-2"]
    assert found.whole.cosine[0][1] == pytest.approx(np.sqrt(0.5))
    assert not list(tmp_path.iterdir())


def test_a_pair_beside_a_folder_and_a_live_configuration(tmp_path):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=1, lora_alpha=4, target_modules={"q_proj"})
    folder = tmp_path / "merged"
    carrick.adapters.merge([(state([3.0, 4.0]), CONFIG)], folder)
    found = carrick.adapters.similarity([(state([1.0, 0.0]), config), f"{folder}:-1"])
    assert found.models == ["model-1", "merged:-1"]
    assert found.whole.cosine[0][1] == pytest.approx(-0.6)
    assert found.whole.norms[0] == pytest.approx(4 * np.sqrt(2))


@pytest.mark.parametrize(
    ("models", "what"),
    [
        (
            [(state([1.0] * 999), None), "other"],
            r"^model 1 is a tuple \(dict, NoneType\); give a path, a Hub id",
        ),
        ((state([1.0] * 999), CONFIG), "^model 1 is dict; give a path, a Hub id, or a pair of a state dict"),
        ([(state([1.0] * 999), CONFIG)], r"^similarity needs two models or more, and 1 was given"),
        (3, "^the models are int; give a list"),
    ],
)
def test_no_tensor_is_printed(models, what):
    with pytest.raises(carrick.ConfigError, match=what) as told:
        carrick.similarity(models)
    assert len(str(told.value)) < 200
