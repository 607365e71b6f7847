"""A head trained on a base that ties it to its embeddings, or on one that is stored under other names."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

import carrick
from adapters.dense import applied
from adapters.loading import merged_weights
from adapters.zoo import case, gpt2, llama_tied, make
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


@pytest.mark.parametrize("way", [apply, dense])
def test_the_advice_works(way, tied, tmp_path):
    """The YAML in the message gives what PEFT's `merge_and_unload` gives."""
    made, base = tied
    folder = made[0].folder
    with pytest.raises(PlanError, match="yet their values differ") as caught:
        way(base, folder, tmp_path / "out")
    document = re.search(
        r"`tie: untie` keeps both in a YAML for `carrick merge`, such as (\{.*\}),", str(caught.value)
    )
    assert document is not None, str(caught.value)
    (tmp_path / "untied.yml").write_text(document[1])
    carrick.merge(tmp_path / "untied.yml", tmp_path / "out")
    got = read_model(tmp_path / "out")
    assert got.keys() == made[0].merged.keys()
    for key, tensor in made[0].merged.items():
        np.testing.assert_allclose(got[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)
    assert np.abs(got[HEAD] - got[EMBEDDINGS]).max() > 0.1
    assert json.loads((tmp_path / "out" / "config.json").read_text())["tie_word_embeddings"] is False


def test_several_adapters_in_such_a_document(tied, tmp_path):
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
