"""What notes and errors about adapters say: only what is true of these, by names that the user knows."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest

from adapters.merging import Q, V, lora, merged
from adapters.zoo import CASES, bert, case, llama_tied, make, torch
from carrick.adapters import apply, extract, merge
from carrick.errors import PlanError
from oracles.files import read_model, write_model


@pytest.mark.parametrize("name", ["bert", "llama"])
def test_a_classifier_has_no_head_that_is_tied(name, tmp_path):
    """Its configuration says `tie_word_embeddings: true` all the same."""
    build, embeddings = {"bert": (bert, "word_embeddings"), "llama": (llama_tied, "embed_tokens")}[name]
    torch.manual_seed(0)
    model = build()
    model.config.tie_word_embeddings = True
    model.save_pretrained(tmp_path / "base")
    folder = make(case(build, embeddings), tmp_path / "adapter").folder
    report = apply(tmp_path / "base", folder, tmp_path / "out")
    assert any("the head is tied to" in note for note in report.notes) == (name == "llama")


@pytest.fixture
def models(tmp_path):
    """BERT, and one that differs in every `query` and in the classifier."""
    torch.manual_seed(0)
    model = bert()
    model.save_pretrained(tmp_path / "base")
    tensors = read_model(tmp_path / "base")
    changed = {k: t + np.float32("query.weight" in k or "classifier" in k) for k, t in tensors.items()}
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "config.json").write_bytes((tmp_path / "base" / "config.json").read_bytes())
    write_model(tmp_path / "tuned", changed, config=model.config.to_dict())
    return tmp_path / "base", tmp_path / "tuned"


def test_extract_tells_what_was_not_named_from_what_does_not_differ(models, tmp_path):
    base, tuned = models
    with pytest.raises(PlanError) as caught:
        extract(base, tuned, tmp_path / "out", rank=4, modules=["key"])
    message = str(caught.value)
    assert "in no matrix that --modules names" in message
    assert "bert.encoder.layer.0.attention.self.query.weight and 1 more" in message
    assert "keep the model as it is" not in message
    with pytest.raises(PlanError, match=r"in no matrix of its layers, .* keep the model as it is"):
        extract(base, base, tmp_path / "out", rank=4)


def test_sums_that_take_biases_of_b(tmp_path):
    """All that the message names do, and that is all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folders = [make(CASES["lora_bias"], tmp_path / str(seed), seed).folder for seed in range(2)]
    saved = {"modules_to_save": "1"}
    with pytest.raises(PlanError) as caught:
        merge(folders, method="knots_linear", **saved)
    named = re.findall(r"`(\w+)`", str(caught.value).partition("which only")[2].partition("sum;")[0])
    assert named == ["cat", "linear", "task_arithmetic"]
    for method in named:
        assert merge(folders, method=method, **saved).config["lora_bias"] is True


def test_layer_swap_is_offered_no_sum_of_modules_saved_whole():
    adapters = [lora(seed, {Q.format(layer): (6, 5) for layer in range(4)}) for seed in range(2)]
    adapters[1].settings["modules_to_save"] = ["lm_head"]
    adapters[1].more["lm_head.weight"] = np.ones((7, 6), np.float32)
    for method, offered in (("cat", True), ("layer_swap", False)):
        with pytest.raises(PlanError, match="--modules-to-save ADAPTER keeps") as caught:
            merged(adapters, method=method)
        assert ("--modules-to-save merge" in str(caught.value)) == offered


def test_adapters_in_memory_are_called_by_their_numbers(tmp_path):
    first, second = lora(0), lora(1, {V.format(0): (9, 17)})
    second.settings["some_newer_key"] = 1
    notes = merged([first, second]).notes
    assert any(note.startswith("adapter 2 has no update for 2 of the modules") for note in notes)
    assert any(note.startswith("adapter 2/adapter_config.json: has keys") for note in notes)
    folder = first.write(tmp_path / "first")
    with pytest.raises(PlanError) as caught:
        merge([folder, lora(1, {Q.format(0): (4, 4)}).state])
    assert f"in {folder} and a linear of 4 × 4 in adapter 2" in str(caught.value)
    assert not any("carrick-" in note for note in notes)
    # A path is what it was, in a later merge too.
    assert any(
        str(folder) in note for note in merge([folder, lora(1, {"model.layers.9.x": (4, 4)}).state]).notes
    )
