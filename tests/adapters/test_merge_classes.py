"""Adapters of one base that were trained through different classes: their modules are matched, or refused."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import carrick
from adapters.loading import loaded, logits, model_of
from adapters.merging import FILE, PREFIX, distance, lora, merged, oracle, result
from adapters.zoo import bert, case, gpt2, llama, make, peft
from carrick.adapters import merge
from carrick.errors import PlanError
from oracles.files import read_file

SHORT = {f"layers.{number}.q": (9, 7) for number in range(4)}
LONG = {f"model.{path}": shape for path, shape in SHORT.items()}

CLASSES = {
    "llama": (llama, "model", ("q_proj", "down_proj"), ("q_proj", "v_proj")),
    "llama_embeddings": (llama, "model", ("embed_tokens", "q_proj"), ("q_proj", "lm_head")),
    "bert": (bert, "bert", ("query", "dense"), ("query", "value")),
    "gpt2": (gpt2, "transformer", ("c_attn",), ("c_attn", "c_proj")),
}
METHODS = {
    "cat": {},
    "to_a_rank": {"rank": 3},
    "ties": {"method": "ties", "density": 0.5, "rank": 5},
    "knots": {"method": "knots_ties", "density": 0.5},
    "factors": {"method": "ties", "density": 0.5, "space": "factors"},
    "layer_swap": {"method": "layer_swap", "parameters": {"partition": "B"}},
}


def renamed(one, prefix="model."):
    """The same adapter, as the class of the longer names would have saved it."""
    one.factors = {prefix + path: factors for path, factors in one.factors.items()}
    one.more = {prefix + key: tensor for key, tensor in one.more.items()}
    return one


def refused(adapters, *words, **options):
    with pytest.raises(PlanError) as caught:
        merged(adapters, **options)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("name", CLASSES)
def test_it_loads_into_the_class_with_a_head(name, order, tmp_path):
    """No key is missing or left over, and the logits are those of both adapters, one put on after the other."""
    build, inner, bare, headed = CLASSES[name]
    whole = case(build, *headed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        short = make(case(lambda: getattr(build(), inner), *bare), tmp_path / "short", 1).folder
        long = make(whole, tmp_path / "long", 2).folder
        report = merge([short, long][::order], tmp_path / "out")
        both = model_of(whole)
        both.add_module(inner, peft.PeftModel.from_pretrained(getattr(both, inner), short).merge_and_unload())
        both = peft.PeftModel.from_pretrained(both, long).merge_and_unload().eval()
    np.testing.assert_allclose(logits(loaded(whole, tmp_path / "out")), logits(both), atol=1e-11)
    assert sum("trained through different classes" in note for note in report.notes) == 1
    # What AutoPeftModel loads the base with.
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["auto_mapping"]["base_model_class"] == build().__class__.__name__


@pytest.mark.parametrize("name", METHODS)
def test_every_method_sees_the_same_modules(name):
    """As if both had been trained through one class, to the byte."""
    options = METHODS[name]
    want = merged([renamed(lora(0, SHORT)), lora(1, LONG)], **options)
    got = merged([lora(0, SHORT), lora(1, LONG)], **options)
    assert {key: t.tobytes() for key, t in got.state_dict.items()} == {
        key: t.tobytes() for key, t in want.state_dict.items()
    }
    assert got.config == want.config


def test_similarity(tmp_path):
    folders = [lora(seed, shapes).write(tmp_path / str(seed)) for seed, shapes in enumerate((SHORT, LONG))]
    found = carrick.similarity(folders)
    vectors = [
        np.concatenate([each.ravel() for each in lora(seed, SHORT).updates().values()]) for seed in range(2)
    ]
    cosine = vectors[0] @ vectors[1] / np.prod([np.linalg.norm(vector) for vector in vectors])
    assert found.whole.cosine[0][1] == pytest.approx(cosine, rel=1e-6)
    assert any("different classes" in note for note in found.notes)
    assert not any("count as zero" in note for note in found.notes)


def test_three_forms():
    longest = {f"language_model.{path}": shape for path, shape in LONG.items()}
    forms = [lora(0, SHORT), lora(1, LONG), lora(2, longest)]
    same = [lora(0, SHORT), lora(1, SHORT), lora(2, SHORT)]
    # Random factors do not hang on the names.
    want = {
        f"language_model.model.{path}": update for path, update in oracle("task_arithmetic", same).items()
    }
    assert distance(result(merged(forms)), want) <= 1e-6


def test_whole_modules_biases_and_tokens_follow():
    """Under the longer names they are those that the class with a head has."""

    def beside(prefix):
        one = lora(0, {f"{prefix}{path}": shape for path, shape in SHORT.items()})
        one.settings |= {"modules_to_save": ["norm"], "bias": "all"}
        one.settings |= {"trainable_token_indices": {"embed_tokens": [1, 4]}}
        one.more = {f"{prefix}norm.weight": np.ones(7, np.float32)}
        one.more[f"{prefix}layers.0.q.bias"] = np.ones(9, np.float32)
        one.more[f"{prefix}embed_tokens.token_adapter.trainable_tokens_delta"] = np.ones((2, 7), np.float32)
        return one

    reports = [merged([beside(prefix), lora(1, LONG)], modules_to_save="1") for prefix in ("", "model.")]
    got, want = (report.state_dict for report in reports)
    assert {key: t.tobytes() for key, t in got.items()} == {key: t.tobytes() for key, t in want.items()}
    assert f"{PREFIX}model.norm.weight" in got
    assert reports[0].config == reports[1].config


def test_one_module_that_is_the_end_of_another_stays_itself():
    """`fc` and `sub.fc` are two layers of one net; so are stacks that one adapter has both of."""
    report = merged([lora(0, {"fc": (4, 3)}), lora(1, {"sub.fc": (4, 3)})])
    assert result(report).keys() == {"fc", "sub.fc"}
    both = lora(2, {**SHORT, **LONG})
    assert result(merged([lora(0, SHORT), lora(1, LONG), both])).keys() == {*SHORT, *LONG}


UNCLEAR = {
    "two_places": ([SHORT, {f"{p}.layers.0.q": (9, 7) for p in ("encoder", "decoder")}], "encoder.layers…"),
    "a_head_beside_it": ([{**SHORT, "lm_head": (5, 7)}, LONG], "lm_head.weight, which no bare model has"),
    "one_module_as_it_is": (
        [{**SHORT, "proj": (5, 7)}, {**LONG, "proj": (5, 7)}],
        "yet both have proj.weight",
    ),
    "both_ways": (
        [{"h.0.q": (9, 7), "x.g.0.q": (9, 7)}, {"x.h.0.q": (9, 7), "g.0.q": (9, 7)}],
        "is not certain",
    ),
}


@pytest.mark.parametrize("name", UNCLEAR)
def test_what_is_not_certain_is_refused(name, tmp_path):
    shapes, word = UNCLEAR[name]
    adapters = [lora(seed, each) for seed, each in enumerate(shapes)]
    refused(adapters, word, "is not certain", "BASE+ADAPTER")
    folders = [one.write(tmp_path / str(seed)) for seed, one in enumerate(adapters)]
    with pytest.raises(PlanError, match="is not certain"):
        carrick.similarity(folders)


def test_the_inputs_stay_as_they_are(tmp_path):
    folders = [lora(seed, shapes).write(tmp_path / str(seed)) for seed, shapes in enumerate((SHORT, LONG))]
    before = [(folder / FILE).read_bytes() for folder in folders]
    merge(folders, tmp_path / "out")
    assert [(folder / FILE).read_bytes() for folder in folders] == before
    assert all("model.layers" in key for key in read_file(tmp_path / "out" / FILE))
