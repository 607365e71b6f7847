"""Adapters of one base with a resized vocabulary, merged into one adapter: what PEFT makes of it on that base."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import save_file

import carrick
from adapters.merging import FILE
from adapters.resized import (
    APPLIED,
    TOKENS,
    base_of,
    make_resized,
    resized_model,
    with_tokens_of,
)
from adapters.zoo import case, llama, llama_tied, peft, tensors
from carrick.adapters import apply, merge
from carrick.adapters.adapter import read_adapter
from carrick.cli import main
from carrick.errors import PlanError
from oracles.files import read_file, read_model

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PREFIX = "base_model.model."
TIED = llama_tied


def loaded(adapter, base, **options):
    """What PEFT makes of a written adapter on the resized base, of which no key is missing or left over."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.PeftModel(resized_model(base, **options), peft.PeftConfig.from_pretrained(adapter))
        result = wrapped.load_adapter(adapter, "default")
        assert not result.unexpected_keys
        trained = ("lora_", "modules_to_save", "trainable_tokens_delta")
        assert not [key for key in result.missing_keys if any(part in key for part in trained)]
        return tensors(wrapped.merge_and_unload())


MERGED = {
    "tokens": [with_tokens_of(llama), with_tokens_of(llama, [36, 34])],
    "tokens of both": [
        with_tokens_of(llama, {"embed_tokens": TOKENS, "lm_head": [34, 2]}), with_tokens_of(llama, {"lm_head": [2]}),
    ],
    "tokens, tied": [with_tokens_of(TIED), with_tokens_of(TIED, [36, 34])],
    "tokens of one": [with_tokens_of(llama), case(llama, "q_proj")],
    "nothing of it trained": [case(llama, "q_proj"), case(llama, "k_proj")],
    "factors": [case(llama, "q_proj", "embed_tokens", "lm_head"), case(llama, "embed_tokens", "lm_head")],
}  # fmt: skip


@pytest.mark.parametrize("given", ["original", "resized"])
@pytest.mark.parametrize("name", MERGED)
def test_merged_into_one_adapter(name, given, tmp_path):
    """start + Σ w·(merged − start) on the resized base; the rows before the training are the adapters' own."""
    cases = MERGED[name]
    base = base_of(cases[0], tmp_path / "base")
    made = [make_resized(one, base, tmp_path / str(seed), seed) for seed, one in enumerate(cases)]
    resized_model(base).save_pretrained(tmp_path / "resized")
    chosen = {"original": base, "resized": tmp_path / "resized"}[given]
    whole = (
        {"modules_to_save": "merge", "base": chosen}
        if any(read_adapter(m.adapter).tokens for m in made)
        else {}
    )
    report = merge([one.adapter for one in made], tmp_path / "out", weights=[0.5, -2], **whole)
    # Other new rows in the model it is loaded into: those of the training come from the adapter.
    found = loaded(tmp_path / "out", base, seed=5)
    for key, start in made[0].start.items():
        if key not in made[0].merged:  # a tied head
            continue
        want = start + 0.5 * (made[0].merged[key] - start) - 2 * (made[1].merged[key] - start)
        np.testing.assert_allclose(found[key], want, rtol=1e-10, atol=1e-10, err_msg=key)
    assert not any("differs between" in note for note in report.notes)
    written = read_file(tmp_path / "out" / FILE)
    kinds = {key.removeprefix(PREFIX) for key in written if "embed_tokens" in key and "lora_" not in key}
    if name.startswith("tokens"):
        rows, below = (
            "model.embed_tokens.token_adapter." + end
            for end in ("trainable_tokens_delta", "base_layer.weight")
        )
        assert kinds == {rows, below}
    apply(base, tmp_path / "out", tmp_path / "model")
    for key, tensor in read_model(tmp_path / "model").items():
        np.testing.assert_allclose(tensor, found[key], rtol=1e-10, atol=1e-10, err_msg=key)


@pytest.mark.parametrize("keep", [0, 1])
def test_kept_of_one(keep, tmp_path):
    """Tokens and the rows that they stand on are those of one adapter, on another resized base or not."""
    base = base_of(case(llama), tmp_path / "base")
    made = [make_resized(with_tokens_of(llama, rows), base, tmp_path / str(i), i, resized=i)
            for i, rows in enumerate((TOKENS, [34, 2]))]  # fmt: skip
    folders = [one.adapter for one in made]
    with pytest.raises(PlanError, match=r"tokens of model\.embed_tokens.*--modules-to-save ADAPTER"):
        merge(folders, tmp_path / "out")
    report = merge(folders, tmp_path / "out", modules_to_save=str(keep + 1))
    found = loaded(tmp_path / "out", base, seed=9)
    for key in (EMBEDDINGS, HEAD):
        np.testing.assert_allclose(found[key], made[keep].merged[key], rtol=1e-12, err_msg=key)
    assert any(f"{EMBEDDINGS}, which was not trained, differs between" in note for note in report.notes)


def test_tokens_of_two_resized_bases_are_not_merged(tmp_path):
    base = base_of(case(llama), tmp_path / "base")
    made = [make_resized(with_tokens_of(llama), base, tmp_path / str(i), i, resized=i) for i in range(2)]
    with pytest.raises(
        PlanError, match=r"has 32 rows, and the adapters do not hold the same others.*resize the base"
    ):
        merge([one.adapter for one in made], tmp_path / "out", modules_to_save="merge", base=base)
    larger = make_resized(case(llama, "q_proj"), base, tmp_path / "larger", rows=40)
    plain = make_resized(case(llama, "q_proj"), base, tmp_path / "plain")
    with pytest.raises(
        PlanError, match=r"\[37, 16\] in .*plain and \[40, 16\] in .*larger: the vocabulary was resized"
    ):
        merge([plain.adapter, larger.adapter], tmp_path / "out")
    whole = [make_resized(APPLIED["saved whole"], base, tmp_path / f"whole-{i}", i) for i in range(2)]
    with pytest.raises(PlanError, match=r"resize the base's vocabulary first.*or keep one adapter's"):
        merge([one.adapter for one in whole], tmp_path / "out", modules_to_save="merge", base=base)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["factors", "tokens of both"])
def test_through_another_document(name, tmp_path):
    """A document that is not merged yet has no bytes to compare with."""
    cases = MERGED[name] + MERGED[name][:1]
    base = base_of(cases[0], tmp_path / "base")
    made = [make_resized(one, base, tmp_path / str(seed), seed) for seed, one in enumerate(cases)]
    resized_model(base).save_pretrained(tmp_path / "resized")
    first, second, third = (str(one.adapter) for one in made)
    whole = {"modules_to_save": "merge"} if "tokens" in name else {}
    base_model = {"base_model": str(tmp_path / "resized")} if whole else {}
    both = {"merge_method": "cat", **base_model, **whole}
    inner = both | {"name": "both", "models": [{"model": first}, {"model": second}]}
    outer = both | {"models": [{"model": "both"}, {"model": third}]}
    config = tmp_path / "two.yml"
    config.write_text("\n---\n".join(json.dumps(document) for document in (inner, outer)))
    assert main(["plan", str(config)]) == 0
    report = carrick.merge(config, tmp_path / "out")
    assert not [note for note in report.notes if "differs" in note]
    found = loaded(tmp_path / "out", base)
    for tensor, start in made[0].start.items():
        wanted = start + sum(one.merged[tensor] - start for one in made)
        np.testing.assert_allclose(found[tensor], wanted, rtol=1e-10, atol=1e-12, err_msg=tensor)


@pytest.mark.parametrize(("dtype", "code"), [("float32", 0), ("float16", 2)])
def test_carried_in_other_types(dtype, code, tmp_path, capfd):
    """The models were made in float32, which float16 rounds."""
    chosen = MERGED["factors"][0]
    base = base_of(chosen, tmp_path / "base")
    one, other = (make_resized(chosen, base, tmp_path / str(seed), seed).adapter for seed in (0, 1))
    rounded = {
        key: value.astype(dtype if "base_layer" in key else value.dtype)
        for key, value in read_file(other / FILE).items()
    }
    save_file(rounded, other / FILE)
    report = merge([one, other], tmp_path / "out")
    short = {"float32": "F32", "float16": "F16"}[dtype]
    note = f"{EMBEDDINGS}, which was not trained, is F64 in {one} and {short} in {other}: that of {one}"
    assert note in " ".join(report.notes)
    capfd.readouterr()
    applied = tmp_path / "applied"
    assert main(["adapters", "apply", str(base), str(one), str(other), "-o", str(applied)]) == code
    error = capfd.readouterr().err
    assert (f"one is {short}, the other F64" in error) == (code == 2)
    assert "different bases" not in error
