"""Where PEFT's `add_weighted_adapter` is wrong, by name: what it gives, and what is right.

The right answer is never PEFT's merge itself: it is its forward pass or its `merge_and_unload`, one adapter at a
time. Each test first sees that PEFT is still wrong, so that a release which mends it is noticed here.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from adapters.dense import applied
from adapters.loading import logits, merged_weights, updates_of
from adapters.zoo import CASES, case, llama, make, peft, qwen2, torch
from carrick.adapters import merge
from carrick.adapters.adapter import read_adapter
from oracles.files import write_model

WEIGHTS = [1.0, 1.0]


def in_peft(chosen, folders, kind, **options):
    """PEFT's merge of two adapters on disk: ΔW by path, and the model with the merged adapter active."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        wrapped = peft.PeftModel.from_pretrained(chosen.model().double(), folders[0])
        wrapped.load_adapter(folders[1], "other")
        wrapped.add_weighted_adapter(
            ["default", "other"], WEIGHTS, "merged", combination_type=kind, **options
        )
        wrapped.set_adapter("merged")
    found = {
        path.removeprefix("base_model.model."): module.get_delta_weight("merged").detach().numpy()
        for path, module in wrapped.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    return found, wrapped.eval()


def pair(chosen, root, **changes):
    return [make(chosen, root / str(seed), seed, **changes).folder for seed in range(2)]


def ratio(got, want):
    return {path: np.linalg.norm(got[path]) / np.linalg.norm(want[path]) for path in want}


@pytest.mark.parametrize(("kind", "rank"), [("cat", 8), ("svd", 4), ("linear", 4)])
def test_rslora_is_inherited_and_scales_once_more(kind, rank, tmp_path):
    """PEFT keeps `use_rslora` and sets α to the new rank: √r too large. Ours is plain."""
    chosen = CASES["rslora"]
    folders = pair(chosen, tmp_path)
    wrong, _ = in_peft(chosen, folders, kind, **({"svd_rank": rank} if kind == "svd" else {}))
    ours = {"cat": {}, "svd": {"rank": rank}, "linear": {"method": "linear", "space": "factors"}}[kind]
    merge(folders, tmp_path / "out", **ours)
    got = updates_of(tmp_path / "out")
    for path, value in ratio(wrong, got).items():
        assert value == pytest.approx(np.sqrt(rank), rel=1e-6), path
    if kind == "cat":
        one, other = (updates_of(folder) for folder in folders)
        for path, matrix in got.items():
            np.testing.assert_allclose(matrix, one[path] + other[path], atol=1e-12)


def test_saved_modules_are_dropped(tmp_path):
    """PEFT gives the merged adapter a copy of the base's module; trained weights are gone without a word."""
    trained = case(llama, "q_proj", modules_to_save=["lm_head"])
    with_head = make(trained, tmp_path / "a", 0)
    without = make(case(llama, "q_proj"), tmp_path / "b", 1)
    folders = [with_head.folder, without.folder]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        wrapped = peft.PeftModel.from_pretrained(trained.model().double(), folders[0])
        wrapped.load_adapter(folders[1], "other")
        wrapped.add_weighted_adapter(["default", "other"], WEIGHTS, "merged", combination_type="cat")
    heads = dict(wrapped.base_model.model.lm_head.modules_to_save.items())
    base = with_head.base["lm_head.weight"]
    np.testing.assert_array_equal(heads["merged"].weight.detach().numpy(), base)
    assert np.abs(heads["default"].weight.detach().numpy() - base).max() > 0.1
    merge(folders, tmp_path / "out", modules_to_save="1")
    got = merged_weights(trained, tmp_path / "out")["lm_head.weight"]
    np.testing.assert_array_equal(got, applied(read_adapter(folders[0]), with_head.base)["lm_head.weight"])


def test_trained_tokens_are_dropped(tmp_path):
    """PEFT gives the merged adapter the base's rows, those of the first adapter's tokens."""
    chosen = [case(llama, "q_proj", trainable_token_indices=rows) for rows in ([3, 5], [5, 7])]
    made = [make(one, tmp_path / str(number), 0) for number, one in enumerate(chosen)]
    folders = [one.folder for one in made]
    _, wrapped = in_peft(chosen[0], folders, "cat")
    rows = wrapped.base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta
    start = made[0].base["model.embed_tokens.weight"]
    np.testing.assert_array_equal(rows["merged"].detach().numpy(), start[[3, 5]])
    assert np.abs(rows["default"].detach().numpy() - start[[3, 5]]).max() > 0.1
    base = write_model(tmp_path / "base", made[0].base)
    merge(folders, tmp_path / "out", modules_to_save="merge", base=base)
    alone = [applied(read_adapter(folder), made[0].base)["model.embed_tokens.weight"] for folder in folders]
    want = start + sum(one - start for one in alone)
    got = merged_weights(chosen[0], tmp_path / "out")["model.embed_tokens.weight"]
    np.testing.assert_allclose(got, want, atol=1e-12)
    assert np.flatnonzero(np.abs(got - start).max(axis=1) > 0.01).tolist() == [3, 5, 7]


@pytest.mark.parametrize("kind", ["linear", "ties", "magnitude_prune"])
def test_factors_apart_make_cross_terms(kind, tmp_path):
    """(ΣB)(ΣA) is another update than ΣBA: not the sum of what the adapters do."""
    chosen = CASES["linear"]
    folders = pair(chosen, tmp_path)
    options = {} if kind == "linear" else {"density": 0.999}
    wrong, _ = in_peft(chosen, folders, kind, **options)
    one, other = (updates_of(folder) for folder in folders)
    merge(folders, tmp_path / "out")
    got = updates_of(tmp_path / "out")
    for path, matrix in wrong.items():
        total = one[path] + other[path]
        assert np.linalg.norm(matrix - total) > 0.3 * np.linalg.norm(total)
        np.testing.assert_allclose(got[path], total, atol=1e-12)


def test_trimming_factors_is_not_trimming_updates(tmp_path):
    """Half of the entries of A and of B are not half of those of B·A."""
    chosen = CASES["linear"]
    folders = pair(chosen, tmp_path)
    wrong, _ = in_peft(chosen, folders, "ties", density=0.5)
    merge(folders, tmp_path / "out", method="ties", density=0.5, rank=99)
    got = updates_of(tmp_path / "out")
    right, _ = in_peft(chosen, folders, "ties_svd", density=0.5, svd_rank=8)
    for path, matrix in wrong.items():
        assert np.linalg.norm(matrix - got[path]) > 0.5 * np.linalg.norm(got[path])
        assert right[path].shape == got[path].shape


def test_biases_of_b_are_lost(tmp_path):
    """PEFT's merged adapter has `lora_bias`, and zeros there; the sum of both adapters' forward passes has not."""
    chosen = case(qwen2, "q_proj", "v_proj", lora_bias=True, lora_alpha=2)
    folders = pair(chosen, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        both = peft.PeftModel.from_pretrained(chosen.model().double(), folders[0])
        both.load_adapter(folders[1], "other")
        both.base_model.set_adapter(["default", "other"])
        want = logits(both.eval())
        _, wrong = in_peft(chosen, folders, "cat")
        assert np.abs(logits(wrong) - want).max() > 1e-3
        merge(folders, tmp_path / "out")
        torch.manual_seed(0)
        got = logits(peft.PeftModel.from_pretrained(chosen.model().double(), tmp_path / "out").eval())
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-9)


def test_a_single_adapter_is_not_itself(tmp_path):
    """The merge of one adapter with weight 1: PEFT's of rsLoRA is not that adapter."""
    chosen = CASES["rslora"]
    folder = make(chosen, tmp_path / "a", 0).folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        wrapped = peft.PeftModel.from_pretrained(chosen.model().double(), folder)
        wrapped.add_weighted_adapter(["default"], [1.0], "merged", combination_type="cat")
    module = next(m for m in wrapped.modules() if hasattr(m, "get_delta_weight"))
    one, wrong = (module.get_delta_weight(name).detach().numpy() for name in ("default", "merged"))
    assert np.linalg.norm(wrong) / np.linalg.norm(one) == pytest.approx(2.0, rel=1e-6)
    merge([folder], tmp_path / "out")
    before, after = updates_of(folder), updates_of(tmp_path / "out")
    for path, matrix in before.items():
        np.testing.assert_allclose(after[path], matrix, atol=1e-13)


def test_ranks_by_pattern_are_forgotten(tmp_path):
    """PEFT gives every module the largest rank, and pads; ours keeps each module's own, and the same update."""
    chosen = CASES["patterns"]
    folders = pair(chosen, tmp_path)
    merge(folders, tmp_path / "out")
    ranks = {path: module.rank for path, module in read_adapter(tmp_path / "out").modules.items()}
    own = read_adapter(folders[0]).modules
    assert ranks == {path: 2 * module.rank for path, module in own.items()}
    assert len(set(ranks.values())) > 1
    theirs, _ = in_peft(chosen, folders, "cat")
    got = updates_of(tmp_path / "out")
    for path, matrix in theirs.items():
        np.testing.assert_allclose(got[path], matrix, atol=1e-12)
