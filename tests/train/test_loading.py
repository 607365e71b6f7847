"""Bases whose files do not hold all of the model: refused, for transformers would draw the rest at random."""

from __future__ import annotations

import json

import pytest

import carrick
from carrick.errors import ConfigError
from carrick.loading import load_complete
from train.tiny import bert, jsonl, llama, questions, torch, transformers

load_file = pytest.importorskip("safetensors.torch").load_file
save_file = pytest.importorskip("safetensors.torch").save_file
pytest.importorskip("trl")


@pytest.fixture
def base(tmp_path):
    return llama(tmp_path / "llama")


def without(folder, *names):
    weights = load_file(folder / "model.safetensors")
    for name in names:
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def with_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def load(folder, **options):
    return load_complete(transformers.AutoModelForCausalLM, folder, "mine", **options)


def test_a_complete_model_is_as_it_is_stored(base):
    found = load(base, dtype=torch.float32).state_dict()
    stored = load_file(base / "model.safetensors")
    assert found.keys() == stored.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in stored.items())


def test_missing_weights(base):
    without(base, "model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight")
    with pytest.raises(ConfigError) as caught:
        load(base, otherwise="; take another")
    assert str(caught.value) == (
        "mine is no causal language model: it holds no `model.layers.0.mlp.up_proj.weight`, which would be random; "
        "take another"
    )


def test_a_tied_output_layer_is_not_missing(base):
    without(base, "lm_head.weight")
    with_config(base, tie_word_embeddings=True)
    model = load(base)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_other_shapes_than_the_config_asks_for(base):
    with_config(base, intermediate_size=48)
    with pytest.raises(ConfigError) as caught:
        load(base)
    assert str(caught.value) == (
        "mine: `model.layers.0.mlp.down_proj.weight` is stored as [32, 64], and its config.json asks for [32, 48]; "
        "use the config.json that belongs to the weights"
    )


@pytest.mark.parametrize("task", ["causal", "classification"])
def test_training_refuses_what_lacks_weights(base, tmp_path, task):
    content = {"adapter": {"rank": 2, "targets": ["q_proj"]}, "training": {"steps": 1}, "base": str(base)}
    rows = questions(4)
    if task == "classification":
        from carrick.classifier.head import Head  # noqa: PLC0415

        weight = torch.zeros(2, 32).numpy()
        Head(weight, weight[:, 0], ("bad", "good"), "bert").save(tmp_path / "head")
        content |= {"base": str(bert(tmp_path / "bert")), "head": str(tmp_path / "head"), "task": task}
        content["adapter"]["targets"] = ["query"]
        without(tmp_path / "bert", "embeddings.LayerNorm.weight")
        rows = [{"text": "the cat", "label": 1}]
    else:
        without(base, "model.norm.weight")
    content["data"] = {"train": {"file": str(jsonl(tmp_path / "rows.jsonl", rows))}}
    with pytest.raises(ConfigError, match=r"it holds no `.*[nN]orm\.weight`, which would be random$"):
        carrick.train(content, tmp_path / "out", device="cpu", progress=False)
    assert not (tmp_path / "out").exists()
