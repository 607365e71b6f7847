"""What an adapter is put on: the check before the training and PEFT agree, module by module."""

from __future__ import annotations

import json

import numpy as np
import pytest

import carrick
from carrick.classifier.head import Head
from carrick.errors import ConfigError
from train.tiny import bert, jsonl, opinions, questions, tokenizer, torch, transformers

pytest.importorskip("trl")
load_file = pytest.importorskip("safetensors.torch").load_file

CONV1D = {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A GPT-2, whose linear layers are transformers' Conv1D, and a BERT under a head."""
    folder = tmp_path_factory.mktemp("targets")
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=28, n_embd=16, n_layer=2, n_head=2, n_positions=64, eos_token_id=2, bos_token_id=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder / "gpt2")
    tokenizer(folder / "gpt2")
    bert(folder / "bert")
    jsonl(folder / "qa.jsonl", questions(8))
    jsonl(folder / "opinions.jsonl", opinions(8))
    weight = np.zeros((2, 32), np.float32)
    Head(weight, weight[:, 0], ("bad", "good"), "bert").save(folder / "head")
    return folder


def gpt2(place, adapter, **changes):
    content = {
        "base": str(place / "gpt2"),
        "data": {"train": {"file": str(place / "qa.jsonl")}},
        "adapter": {"rank": 2, **adapter},
        "training": {"steps": 2, "batch_size": 4},
    }
    return {**content, **changes}


def encoder(place, targets):
    return {
        "base": str(place / "bert"),
        "task": "classification",
        "head": str(place / "head"),
        "data": {"train": {"file": str(place / "opinions.jsonl")}},
        "adapter": {"rank": 2, "targets": targets},
        "training": {"steps": 1},
    }


def trained(content, out):
    """Modules that were adapted; the dry run counts their parameters."""
    planned = carrick.train(content, out, device="cpu", dry_run=True).record["trainable_parameters"]
    record = carrick.train(content, out, device="cpu", progress=False).record
    assert planned in {record["trainable_parameters"], None}
    names = load_file(out / "adapter_model.safetensors")
    return {name.removeprefix("base_model.model.").split(".lora_")[0] for name in names}


class TestConv1D:
    def test_all_linear(self, place, tmp_path):
        found = trained(gpt2(place, {"targets": "all-linear"}), tmp_path / "out")
        assert found == {f"transformer.h.{layer}.{name}" for layer in (0, 1) for name in CONV1D}

    def test_layers(self, place, tmp_path):
        found = trained(gpt2(place, {"targets": "all-linear", "layers": [0]}), tmp_path / "out")
        assert found == {f"transformer.h.0.{name}" for name in CONV1D}

    def test_a_partition(self, place, tmp_path):
        partition = {"match": r"\.h\.1\.", "side": "language"}
        found = trained(gpt2(place, {"targets": "all-linear"}, partition=partition), tmp_path / "out")
        assert found == {f"transformer.h.1.{name}" for name in CONV1D}

    def test_both_sides(self, place, tmp_path):
        source = {"train": {"file": str(place / "qa.jsonl")}}
        content = gpt2(
            place,
            {"targets": "all-linear"},
            method="simultaneous",
            sources={"task": source, "language": source},
            partition={"match": r"\.h\.1\."},
        )
        del content["data"]
        assert len(trained(content, tmp_path / "out")) == 8


@pytest.mark.parametrize(
    ("targets", "ends"),
    [
        # Blocks and dropouts match as well: PEFT would refuse the whole pattern for them.
        (r"encoder\.layer\..*attention.*", {"query", "key", "value", "dense"}),
        (r".*(query|LayerNorm)", {"query"}),
    ],
)
def test_a_pattern_takes_what_can_be_adapted(place, tmp_path, targets, ends):
    found = trained(encoder(place, targets), tmp_path / "out")
    assert {name.rsplit(".", 1)[-1] for name in found} == ends
    assert all(("attention" in name) for name in found)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert len(found) == 2 * len(ends), config["target_modules"]


def test_a_pattern_of_nothing_that_can_be_adapted(place, tmp_path):
    with pytest.raises(ConfigError, match="matches no module of"):
        carrick.train(encoder(place, ".*LayerNorm"), tmp_path / "out", device="cpu")
