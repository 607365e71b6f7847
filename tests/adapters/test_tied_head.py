"""A head trained on a base that ties it to its embeddings, or on one that is stored under other names."""

from __future__ import annotations

import json

import numpy as np
import pytest

import carrick
from adapters.dense import applied
from adapters.loading import loaded, merged_weights
from adapters.zoo import case, gpt2, llama_tied, make, torch
from carrick.adapters import apply, merge
from carrick.adapters.adapter import read_adapter
from carrick.adapters.dense import merge_into_base
from carrick.errors import PlanError
from oracles.files import read_model, write_model

HEAD, EMBEDDINGS = "lm_head.weight", "model.embed_tokens.weight"
TIED = case(llama_tied, "q_proj", modules_to_save=["lm_head"])
CONFIG = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True}
WEIGHTS = [0.75, -0.5]


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    root = tmp_path_factory.mktemp("tied")
    made = [make(TIED, root / f"adapter-{seed}", seed) for seed in range(2)]
    tensors = {key: np.ascontiguousarray(tensor) for key, tensor in made[0].base.items()}
    assert HEAD not in tensors
    return made, write_model(root / "base", tensors, config=CONFIG)


def saved_head(one):
    folder = one.folder
    return applied(read_adapter(folder), one.base)[HEAD]


def dense(base, folder, out):
    return merge_into_base(base, [folder], out)


def passthrough(base, folder, out):
    models = [{"model": f"{base}+{folder}"}]
    return carrick.merge({"merge_method": "passthrough", "models": models}, out)


APART = {
    "head": TIED,
    "embeddings": case(llama_tied, "q_proj", modules_to_save=["embed_tokens"]),
    "both": case(llama_tied, "q_proj", modules_to_save=["lm_head", "embed_tokens"]),
}


def made_apart(name, root):
    return make(APART[name], root / name)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("way", [apply, dense, passthrough])
@pytest.mark.parametrize("name", APART)
def test_trained_by_themselves(name, way, stored, tied, tmp_path):
    """What PEFT's `merge_and_unload` gives, which unties the model; the base may store a copy of its embeddings."""
    _, base = tied
    made = made_apart(name, tmp_path)
    if stored:
        tensors = read_model(base)
        base = write_model(tmp_path / "base", {**tensors, HEAD: tensors[EMBEDDINGS]}, config=CONFIG)
    report = way(base, made.folder, tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert got.keys() == made.merged.keys()
    for key, tensor in made.merged.items():
        np.testing.assert_allclose(got[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)
    assert np.abs(got[HEAD] - got[EMBEDDINGS]).max() > 0.1
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False
    assert any("come apart" in note for note in report.notes)
    assert not any("follows" in note or "may have to name" in note for note in report.notes)


@pytest.mark.parametrize("way", [apply, dense, passthrough])
def test_trained_as_one(way, tied, tmp_path):
    _, base = tied
    options = {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}
    made = make(case(llama_tied, "q_proj", **options), tmp_path / "adapter")
    way(base, made.folder, tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert got.keys() == made.merged.keys()
    assert HEAD not in got
    np.testing.assert_array_equal(got[EMBEDDINGS], made.merged[EMBEDDINGS])
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is True


def test_put_on_by_a_weight(tied, tmp_path):
    """The head stays the base's, whose bytes are those that the embeddings start from."""
    _, base = tied
    made = made_apart("embeddings", tmp_path)
    apply(base, f"{made.folder}:0.5", tmp_path / "out")
    got, start = read_model(tmp_path / "out"), made.base[EMBEDDINGS]
    np.testing.assert_array_equal(got[HEAD], start)
    np.testing.assert_allclose(got[EMBEDDINGS], (start + made.merged[EMBEDDINGS]) / 2, atol=1e-12)
    apply(base, f"{made.folder}:0", tmp_path / "none")
    assert HEAD not in read_model(tmp_path / "none")


@pytest.mark.parametrize("names", [("embeddings", "head"), ("both", "embeddings"), ("embeddings", None)])
def test_merged_with_others(names, tied, tmp_path):
    """θ₀ + Σ w·(θᵢ − θ₀) of head and embeddings alike, in a YAML and by `--dense`."""
    made, base = tied
    alone = [made_apart(name, tmp_path).folder if name else None for name in names]
    whole = [make(APART[n], tmp_path / n).merged if n else dict(made[0].base) for n in names]
    models = [
        {"model": f"{base}+{folder}" if folder else str(base), "parameters": {"weight": w}}
        for folder, w in zip(alone, WEIGHTS, strict=True)
    ]
    options = {"merge_method": "task_arithmetic", "base_model": str(base), "models": models}
    carrick.merge(options, tmp_path / "out")
    got, start = read_model(tmp_path / "out"), made[0].base[EMBEDDINGS]
    for name in (HEAD, EMBEDDINGS):
        changes = [w * (one.get(name, start) - start) for w, one in zip(WEIGHTS, whole, strict=True)]
        np.testing.assert_allclose(got[name], start + sum(changes), atol=1e-6, err_msg=name)
    if all(alone):
        merge_into_base(base, [f"{f}:{w}" for f, w in zip(alone, WEIGHTS, strict=True)], tmp_path / "dense")
        again = read_model(tmp_path / "dense")
        assert all(again[key].tobytes() == tensor.tobytes() for key, tensor in got.items())


def test_they_cannot_be_kept_as_one(tied, tmp_path):
    _, base = tied
    model = f"{base}+{made_apart('embeddings', tmp_path).folder}"
    document = {"merge_method": "passthrough", "models": [{"model": model}], "tie": "keep"}
    with pytest.raises(PlanError, match=r"come apart.*`tie: keep` cannot hold both"):
        carrick.merge(document, tmp_path / "out")


def test_several_adapters_in_a_document(tied, tmp_path):
    """What `--dense` would have made: θ₀ + Σ w·(θᵢ − θ₀), of the head too, whose θ₀ are the embeddings."""
    made, base = tied
    models = [
        {"model": f"{base}+{one.folder}", "parameters": {"weight": w}}
        for one, w in zip(made, WEIGHTS, strict=True)
    ]
    options = {"merge_method": "task_arithmetic", "base_model": str(base), "tie": "untie"}
    carrick.merge(options | {"models": models}, tmp_path / "out")
    start = made[0].base[EMBEDDINGS]
    want = start + sum(w * (saved_head(one) - start) for one, w in zip(made, WEIGHTS, strict=True))
    np.testing.assert_allclose(read_model(tmp_path / "out")[HEAD], want, atol=1e-6)


@pytest.mark.parametrize("stated", [True, None])
def test_merged_into_an_adapter(stated, tied, tmp_path):
    made, base = tied
    if stated is None:
        tensors = read_model(base)
        silent = {key: value for key, value in CONFIG.items() if key != "tie_word_embeddings"}
        base = write_model(tmp_path / "base", tensors, config=silent)
    folders = [one.folder for one in made]
    report = merge(folders, tmp_path / "out", weights=WEIGHTS, modules_to_save="merge", base=base)
    start = made[0].base[EMBEDDINGS]
    want = start + sum(w * (saved_head(one) - start) for one, w in zip(made, WEIGHTS, strict=True))
    got = merged_weights(TIED, tmp_path / "out")
    np.testing.assert_allclose(got[HEAD], want, atol=1e-12)
    np.testing.assert_array_equal(got[EMBEDDINGS], start)
    assert f"the base ties {HEAD} to {EMBEDDINGS}: the differences from that are merged." in report.notes


def test_a_base_that_is_not_tied_has_no_head(tied, tmp_path):
    made, base = tied
    alone = write_model(tmp_path / "base", read_model(base), config=CONFIG | {"tie_word_embeddings": False})
    with pytest.raises(PlanError, match=r"has no tensor 'lm_head\.weight'"):
        merge([one.folder for one in made], tmp_path / "out", modules_to_save="merge", base=alone)


def test_a_base_without_the_first_part_of_its_names(tmp_path):
    """`gpt2` on the Hub has `wpe.weight`, the adapter `transformer.wpe.weight`."""
    chosen = case(gpt2, "c_attn", fan_in_fan_out=True, modules_to_save=["wpe", "ln_f"])
    made = [make(chosen, tmp_path / f"adapter-{seed}", seed) for seed in range(2)]
    bare = {key.removeprefix("transformer."): np.ascontiguousarray(t) for key, t in made[0].base.items()}
    base = write_model(tmp_path / "base", bare, config={"model_type": "gpt2"})
    folders = [one.folder for one in made]
    merge(folders, tmp_path / "out", weights=WEIGHTS, modules_to_save="merge", base=base)
    got = merged_weights(chosen, tmp_path / "out")
    alone = [applied(read_adapter(folder), made[0].base) for folder in folders]
    trained = [f"transformer.{name}" for name in ("wpe.weight", "ln_f.weight", "ln_f.bias")]
    for key in trained:
        start = made[0].base[key]
        want = start + sum(w * (one[key] - start) for w, one in zip(WEIGHTS, alone, strict=True))
        np.testing.assert_allclose(got[key], want, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("way", [apply, dense, passthrough])
def test_factors_of_both_as_one(way, stored, tied, tmp_path):
    """PEFT's forward pass adds them once to the one matrix; its `merge_and_unload` adds those of both to it."""
    _, base = tied
    options = {"ensure_weight_tying": True}
    chosen = case(llama_tied, "q_proj", "embed_tokens", **options)
    made = make(chosen, tmp_path / "adapter")
    if stored:
        tensors = read_model(base)
        base = write_model(tmp_path / "base", {**tensors, HEAD: tensors[EMBEDDINGS]}, config=CONFIG)
    report = way(base, made.folder, tmp_path / "out")
    assert any("merge_and_unload adds" in note for note in report.notes)
    got = read_model(tmp_path / "out")
    assert HEAD not in got
    inner = loaded(chosen, made.folder).base_model.model
    with torch.no_grad():
        rows = inner.model.embed_tokens(torch.arange(len(made.base[EMBEDDINGS]))).numpy()
        head = inner.lm_head(torch.eye(rows.shape[1], dtype=torch.float64)).numpy().T
    np.testing.assert_allclose(got[EMBEDDINGS], rows, atol=1e-12)
    np.testing.assert_allclose(got[EMBEDDINGS], head, atol=1e-12)
