"""Which parameters belong to whom, and partial training: only they move."""

from __future__ import annotations

import json
import re

import pytest

import carrick
from carrick.errors import ConfigError, PlanError
from train.llama_adapters import (
    factors,
    llama,
    load_file,
    peft,
    quiet,
    save_base,
    save_file,
    torch,
    train,
    transformers,
    write_rows,
)

recipes = pytest.importorskip("carrick.train.recipe")
partition = pytest.importorskip("carrick.train.partition")
pytest.importorskip("trl")
fine_tune = pytest.importorskip("carrick.train.fine_tune")
pytestmark = quiet

Partition = recipes.Partition
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ATTENTION = r"self_attn|input_layernorm"


def languages(name, layers):
    """The rule of the paper for 32 layers, written down again: layers of the language, and of all attention."""
    first, last = {"A": (6, 2), "B": (8, 4), "C": (6, 2), "Z": (8, 4)}[name]
    outer = {*range(first), *range(layers - last, layers)}
    return {*range(layers)} - outer if name == "Z" else outer


def names_of(layers):
    with torch.device("meta"):
        model = llama(layers)
    return {name: p.numel() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["A", "B", "C", "Z"])
def test_sides_at_the_papers_depth(name):
    names = names_of(32)
    sides = partition.Sides(names, Partition(name=name))
    for parameter in names:
        layer = re.search(r"layers\.(\d+)\.", parameter)
        mine = layer is not None and (
            int(layer[1]) in languages(name, 32) or (name == "A" and re.search(ATTENTION, parameter))
        )
        assert sides.of(parameter) == ("language" if mine else "task"), parameter


def test_sides_are_those_of_a_merge(tmp_path):
    """What trains on the language's side is what `layer_swap` takes from the language expert."""
    names = {name: p.shape for name, p in llama(12).named_parameters()}
    for value, folder in ((0.0, "task"), (1.0, "language")):
        (tmp_path / folder).mkdir()
        llama(12).config.save_pretrained(tmp_path / folder)
        tensors = {name: torch.full(shape, value) for name, shape in names.items()}
        save_file(tensors, tmp_path / folder / "model.safetensors")
    for name in "ABCZ":
        config = {
            "merge_method": "layer_swap",
            "models": [{"model": str(tmp_path / folder)} for folder in ("task", "language")],
            "parameters": {"partition": name},
        }
        carrick.merge(config, tmp_path / name)
        sides = partition.Sides({n: s.numel() for n, s in names.items()}, Partition(name=name))
        for tensor, value in load_file(tmp_path / name / "model.safetensors").items():
            assert sides.of(tensor) == ("language" if value.flatten()[0] == 1 else "task"), (name, tensor)


def test_factors_are_on_the_side_of_their_weight():
    config = peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(llama(4), config)
    found = partition.sides_of(model, Partition(name="B"))
    plain = partition.sides_of(llama(4), Partition(name="B"))
    assert len(found) == len(plain) + 2 * 4 * 7
    for name, side in found.items():
        bare = name.replace("base_model.model.", "").replace("base_layer.", "")
        bare = re.sub(r"lora_[AB]\.default\.weight", "weight", bare)
        assert side == plain[bare], name


def test_other_models():
    """BERT's numbered layers, GPT-2's, and a head that is tied to the embeddings."""
    bert = transformers.BertModel(
        transformers.BertConfig(
            hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, vocab_size=9
        )
    )
    sides = partition.sides_of(bert, Partition(name="B"))
    assert sides["encoder.layer.0.output.dense.weight"] == "language"
    assert sides["encoder.layer.1.attention.self.query.weight"] == "task"
    assert sides["embeddings.LayerNorm.weight"] == "task"
    tied = partition.sides_of(llama(4, tie_word_embeddings=True), Partition(name="Z"))
    assert tied["model.embed_tokens.weight"] == "task"
    assert "lm_head.weight" not in tied


def test_a_pattern():
    sides = partition.sides_of(llama(2), Partition(match=r"layers\.1\.mlp"))
    assert {name for name, side in sides.items() if side == "language"} == {
        f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")
    }


def test_mistakes():
    model = llama(4)
    with pytest.raises(ConfigError, match="say which one trains"):
        partition.train_only(model, Partition(name="B"))
    with pytest.raises(PlanError, match="nothing is left"):
        partition.train_only(llama(1), Partition(name="B", side="task"))
    with pytest.raises(ConfigError, match=r"match: nothing_such.*nothing would train"):
        partition.train_only(model, Partition(match="nothing_such"))
    with pytest.raises(ConfigError, match="none of the 1 modules"):
        partition.modules_of(model, ["model.layers.1.mlp.up_proj"], Partition(name="B", side="language"))
    content = {"base": "b", "training": {"steps": 1}, "data": {"train": {"file": "x"}}}
    with pytest.raises(ConfigError, match="regular expression"):
        recipes.load_recipe({**content, "partition": {"match": "("}})


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partition")
    save_base(folder / "base", 4)
    write_rows(folder / "en.jsonl", 16, "en", 0)
    return folder


def recipe(place, **changes):
    content = {
        "base": str(place / "base"),
        "data": {"train": {"file": str(place / "en.jsonl")}},
        "training": {"steps": 2, "batch_size": 8, "learning_rate": 1e-2, "weight_decay": 0.1},
    }
    return {**content, **changes}


@pytest.mark.parametrize(("name", "side"), [("B", "task"), ("B", "language"), ("A", "task")])
def test_partial_fine_tuning_moves_one_side_only(place, tmp_path, name, side):
    """Everything else of the result is the base's, byte for byte."""
    report = train(recipe(place, partition={"name": name, "side": side}), tmp_path / "out")
    before, after = (load_file(each / "model.safetensors") for each in (place / "base", tmp_path / "out"))
    assert before.keys() == after.keys()
    sides = partition.sides_of(llama(4), Partition(name=name))
    moved = {tensor for tensor in before if not torch.equal(before[tensor], after[tensor])}
    assert moved == {tensor for tensor, whose in sides.items() if whose == side}
    details = report.record["details"]["partition"]
    assert (details["name"], details["side"], details["trained_tensors"]) == (name, side, len(moved))
    assert details["trained_parameters"] == sum(before[tensor].numel() for tensor in moved)
    assert report.record["trainable_parameters"] == details["trained_parameters"]


@pytest.mark.parametrize(("name", "side"), [("B", "language"), ("A", "task")])
def test_partial_lora_has_no_adapter_elsewhere(place, tmp_path, name, side):
    adapter = {"rank": 2, "targets": ["q_proj", "up_proj"], "rslora": True}
    train(recipe(place, adapter=adapter, partition={"name": name, "side": side}), tmp_path / "out")
    sides = partition.sides_of(llama(4), Partition(name=name))
    want = {
        tensor.removesuffix(".weight")
        for tensor, whose in sides.items()
        if whose == side and ("q_proj" in tensor or "up_proj" in tensor)
    }
    keys = factors(tmp_path / "out")
    assert {key.removeprefix("base_model.model.").rpartition(".lora_")[0] for key in keys} == want
    assert all(value.any() for value in keys.values())
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert set(config["target_modules"]) == want
    again = peft.PeftModel.from_pretrained(llama(4), tmp_path / "out")
    assert {n.rpartition(".lora_A")[0] for n, _ in again.named_parameters() if "lora_A" in n} == {
        f"base_model.model.{path}" for path in want
    }


def test_a_partition_without_targets_is_told_before_anything_is_loaded(place, tmp_path, monkeypatch):
    monkeypatch.setattr(fine_tune, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    adapter = {"rank": 2, "targets": ["up_proj"], "layers": [1, 2]}
    with pytest.raises(ConfigError, match="none of the 2 modules"):
        train(recipe(place, adapter=adapter, partition={"name": "B", "side": "language"}), tmp_path / "out")
