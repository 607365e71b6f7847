"""Task and language adapter trained together, and their exact export as one adapter."""

from __future__ import annotations

import numpy as np
import pytest

from carrick.errors import ConfigError
from train.llama_adapters import (
    factors,
    llama,
    logits,
    peft,
    quiet,
    save_adapter,
    save_base,
    torch,
    train,
    updates,
    with_adapter,
    write_rows,
)

pytest.importorskip("trl")
alignment = pytest.importorskip("carrick.train.alignment")
pytestmark = quiet

WEIGHTS = [0.5, 1.25]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alignment")
    save_base(folder / "base")
    save_adapter(folder / "ta", 0)
    # Another rank, another scale, rsLoRA, and a module that the task adapter does not have.
    save_adapter(folder / "la", 1, rank=2, use_rslora=True, targets=["q_proj", "up_proj", "o_proj"])
    for language, seed in (("en", 0), ("de", 1)):
        write_rows(folder / f"{language}.jsonl", 16, language, seed)
    return folder


def recipe(place, **changes):
    content = {
        "base": str(place / "base"),
        "method": "alignment",
        "data": {"train": [{"file": str(place / f"{language}.jsonl")} for language in ("en", "de")]},
        "task_adapter": str(place / "ta"),
        "language_adapter": str(place / "la"),
        "weights": WEIGHTS,
        "training": {"steps": 4, "batch_size": 8, "learning_rate": 1e-2, "seed": 1, "snapshots": [2]},
    }
    return {**content, **changes}


@pytest.fixture(scope="module")
def aligned(place):
    seen = {}
    original = alignment.fit

    def watched(live, job, **options):
        seen["before"] = {n: p.detach().clone() for n, p in live.named_parameters()}
        seen["start"] = logits(live)
        fitted = original(live, job, **options)
        seen["after"] = {n: p.detach().clone() for n, p in live.named_parameters()}
        seen["logits"] = logits(live)
        return fitted

    alignment.fit = watched
    try:
        seen["report"] = train(recipe(place), place / "out")
    finally:
        alignment.fit = original
    return seen


def test_both_adapters_train_and_the_base_does_not(aligned):
    moved = {name for name, v in aligned["before"].items() if not torch.equal(v, aligned["after"][name])}
    assert moved == {name for name in aligned["before"] if ".ta." in name or ".la." in name}


def test_it_begins_with_the_weighted_sum_of_the_updates(aligned, place):
    """Both adapters live, scaled by λ: the logits of W + Σ λᵢ·ΔWᵢ, written into the base by hand."""
    model = llama()
    for folder, weight in ((place / "ta", WEIGHTS[0]), (place / "la", WEIGHTS[1])):
        for path, update in updates(folder).items():
            model.get_submodule(path).weight.data += weight * torch.tensor(update, dtype=torch.float32)
    torch.testing.assert_close(aligned["start"], logits(model), rtol=0, atol=1e-4)
    assert not torch.allclose(aligned["start"], logits(llama()), atol=0.1)


def test_the_export_has_the_logits_of_both_live_adapters(aligned, place):
    got = logits(with_adapter(place / "out"))
    torch.testing.assert_close(got, aligned["logits"], rtol=0, atol=2e-5)
    assert (aligned["logits"] - aligned["start"]).abs().max() > 1e-2


def test_the_export_is_one_adapter_of_the_sum_of_the_ranks(aligned, place):
    ranks = {key: tensor.shape[0] for key, tensor in factors(place / "out").items() if "lora_A" in key}
    assert {rank for key, rank in ranks.items() if "q_proj" in key or "up_proj" in key} == {5}
    assert {rank for key, rank in ranks.items() if "o_proj" in key} == {2}
    assert {rank for key, rank in ranks.items() if "v_proj" in key or "down_proj" in key} == {3}
    assert aligned["report"].record["details"]["merge"] == {
        "method": "cat",
        "weights": {"ta": 0.5, "la": 1.25},
        "rank": 5,
    }


def test_the_parts_are_the_trained_adapters_without_weights(aligned, place):
    """Their λ-weighted sum in float64 is the ΔW of the export."""
    for name in ("ta", "la"):
        for key, tensor in factors(place / "out" / "parts" / name).items():
            assert torch.equal(tensor, aligned["after"][key.replace(".weight", f".{name}.weight")])
    ta, la = (updates(place / "out" / "parts" / name) for name in ("ta", "la"))
    merged = peft.PeftModel.from_pretrained(llama(), place / "out")
    for path in ta | la:
        layer = merged.base_model.model.get_submodule(path)
        got = layer.get_delta_weight("default").detach().double().numpy()
        want = WEIGHTS[0] * ta.get(path, 0.0) + WEIGHTS[1] * la.get(path, 0.0)
        np.testing.assert_allclose(got, want, atol=2e-6)


def test_a_snapshot_is_an_adapter_of_that_step(aligned, place):
    early = logits(with_adapter(place / "out" / "snapshots" / "step-2"))
    assert not torch.allclose(early, aligned["start"], atol=1e-3)
    assert not torch.allclose(early, aligned["logits"], atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weights": [1.0]}, "one for each of the 2"),
        ({"weights": [1.0, 0.0]}, "weight 0"),
        ({"language_adapter": "other"}, "use the base that the adapter was trained on"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(place, tmp_path, monkeypatch, changes, words):
    if "language_adapter" in changes:
        changes = {"language_adapter": str(save_adapter(tmp_path / "other", 0, layers=4))}
    monkeypatch.setattr(alignment, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError, match=words):
        train(recipe(place, **changes), tmp_path / "out")
