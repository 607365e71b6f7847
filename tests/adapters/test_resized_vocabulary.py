"""Adapters of a base whose vocabulary was resized in memory: what PEFT's merge_and_unload gives of the resized one."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import carrick
from adapters.merging import FILE
from adapters.resized import (
    APPLIED,
    LARGE,
    SMALL,
    TOKENS,
    base_of,
    logits_of,
    make_resized,
    resized_model,
    with_tokens_of,
)
from adapters.zoo import case, llama, llama_tied, peft, transformers
from carrick.adapters import apply, inspect
from carrick.adapters.adapter import read_adapter
from carrick.adapters.dense import merge_into_base
from carrick.cli import main
from carrick.errors import PlanError
from oracles.files import read_file, read_model

EMBEDDINGS, HEAD = "model.embed_tokens.weight", "lm_head.weight"
PREFIX = "base_model.model."
TIED = llama_tied


def check_model(out, want, logits):
    """The weights, config.json, and what transformers makes of them."""
    found = read_model(out)
    assert found.keys() == want.keys()
    for key, tensor in want.items():
        np.testing.assert_allclose(found[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)
    assert json.loads((out / "config.json").read_text())["vocab_size"] == LARGE
    model, told = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(told[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    np.testing.assert_allclose(logits_of(model.double().eval()), logits, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", APPLIED)
def test_applied_to_a_base_of_the_original_vocabulary(name, tmp_path):
    chosen = APPLIED[name]
    base = base_of(chosen, tmp_path / "base")
    made = make_resized(chosen, base, tmp_path / "adapter")
    report = apply(base, made.adapter, tmp_path / "out")
    check_model(tmp_path / "out", made.merged, made.logits)
    assert any(f"the tokenizer stays that of {base}, which may lack" in note for note in report.notes)
    assert json.loads((base / "config.json").read_text())["vocab_size"] == SMALL
    # The same on the resized base, saved as it was for the training.
    resized_model(base).save_pretrained(tmp_path / "resized")
    again = apply(tmp_path / "resized", made.adapter, tmp_path / "again")
    check_model(tmp_path / "again", made.merged, made.logits)
    assert not any("vocab" in note or "tokenizer" in note for note in again.notes)


@pytest.mark.parametrize("name", ["tokens", "tokens, tied", "factors", "nothing of it trained"])
def test_a_weight_scales_what_was_trained(name, tmp_path):
    """The resized rows are the base, whatever the weight: start + w·(merged − start)."""
    chosen = APPLIED[name]
    base = base_of(chosen, tmp_path / "base")
    made = make_resized(chosen, base, tmp_path / "adapter")
    apply(base, f"{made.adapter}:0.25", tmp_path / "out")
    for key, tensor in read_model(tmp_path / "out").items():
        want = made.start[key] + 0.25 * (made.merged[key] - made.start[key])
        np.testing.assert_allclose(tensor, want, rtol=1e-12, atol=1e-12, err_msg=key)


def test_the_tokenizer_beside_the_adapter(tmp_path):
    """What the note names."""
    base = base_of(case(llama), tmp_path / "base")
    made = make_resized(with_tokens_of(llama), base, tmp_path / "adapter")
    (made.adapter / "tokenizer.json").write_text('{"of": "the training"}')
    models = [{"model": f"{base}+{made.adapter}"}]
    config = {"merge_method": "passthrough", "models": models, "tokenizer_source": str(made.adapter)}
    report = carrick.merge(config, tmp_path / "out")
    assert not any("the tokenizer stays" in note for note in report.notes)
    check_model(tmp_path / "out", made.merged, made.logits)
    assert json.loads((tmp_path / "out" / "tokenizer.json").read_text()) == {"of": "the training"}
    assert not (tmp_path / "out" / "adapter_config.json").exists()


def test_fewer_tokens(tmp_path):
    chosen = with_tokens_of(llama, [1, 29])
    base = base_of(chosen, tmp_path / "base")
    made = make_resized(chosen, base, tmp_path / "adapter", rows=30)
    apply(base, made.adapter, tmp_path / "out")
    found = read_model(tmp_path / "out")
    assert found[EMBEDDINGS].shape == (30, 16)
    for key, tensor in made.merged.items():
        np.testing.assert_allclose(found[key], tensor, rtol=1e-12, atol=1e-12)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["vocab_size"] == 30


def test_several_adapters_of_one_resized_base(tmp_path):
    """The one without embeddings of its own may stand first; tokens that both trained are summed."""
    base = base_of(case(llama), tmp_path / "base")
    one = make_resized(with_tokens_of(llama), base, tmp_path / "one", 1)
    two = make_resized(with_tokens_of(llama, [36, 34]), base, tmp_path / "two", 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = peft.get_peft_model(
            transformers.AutoModelForCausalLM.from_pretrained(base),
            peft.LoraConfig(r=2, target_modules=["k_proj"]),
        )
        plain.save_pretrained(tmp_path / "plain")
    words = [tmp_path / "plain", f"{one.adapter}:0.5", f"{two.adapter}:-2"]
    apply(base, words, tmp_path / "out")
    found = read_model(tmp_path / "out")
    for key, start in one.start.items():
        want = start + 0.5 * (one.merged[key] - start) - 2 * (two.merged[key] - start)
        np.testing.assert_allclose(found[key], want, rtol=1e-12, atol=1e-12, err_msg=key)
    assert np.abs(found[EMBEDDINGS][36] - one.start[EMBEDDINGS][36]).max() > 0.1


def test_adapters_of_two_resized_bases(tmp_path):
    """Their untrained rows differ, and so do sizes."""
    base = base_of(case(llama), tmp_path / "base")
    one = make_resized(with_tokens_of(llama), base, tmp_path / "one")
    other = make_resized(with_tokens_of(llama), base, tmp_path / "other", resized=1)
    larger = make_resized(with_tokens_of(llama), base, tmp_path / "larger", rows=40)
    for second in (other, larger):
        with pytest.raises(
            PlanError, match=r"trained on different bases.*resize the base's vocabulary first"
        ) as caught:
            apply(base, [one.adapter, second.adapter], tmp_path / "out")
        assert str(one.adapter) in str(caught.value)
        assert str(second.adapter) in str(caught.value)


def test_rows_of_the_original_vocabulary_before_the_resized_one(tmp_path):
    base = base_of(case(llama), tmp_path / "base")
    one = make_resized(with_tokens_of(llama), base, tmp_path / "one")
    rows = make_resized(with_tokens_of(llama, [3]), base, tmp_path / "rows", rows=SMALL)
    with pytest.raises(PlanError, match=f"name {one.adapter} before {rows.adapter}"):
        apply(base, [rows.adapter, one.adapter], tmp_path / "out")
    apply(base, [one.adapter, rows.adapter], tmp_path / "out")
    found = read_model(tmp_path / "out")[EMBEDDINGS]
    np.testing.assert_allclose(found[3], rows.merged[EMBEDDINGS][3], rtol=1e-12)
    np.testing.assert_allclose(found[TOKENS], one.merged[EMBEDDINGS][TOKENS], rtol=1e-12)


def of_half(tmp_path, base):
    """PEFT stores no head where LoRA is on the embeddings alone: its new rows are lost."""
    made = make_resized(case(llama, "q_proj", "embed_tokens"), base, tmp_path / "adapter")
    assert HEAD not in read_adapter(made.adapter).saved
    return [made.adapter], [
        "embed_tokens.base_layer.weight",
        "[37, 16]",
        "'lm_head.weight' in",
        "[32, 16]",
        "not hold",
    ]


def of_an_unknown_base(tmp_path, base):
    """Where PEFT does not find the base's config.json it stores the trained rows alone."""
    made = make_resized(with_tokens_of(llama), base, tmp_path / "adapter")
    without(made.adapter, "base_layer", HEAD)
    return [made.adapter], ["trainable_tokens_delta", "rows up to 36", "[32, 16]", "no rows but those"]


def of_factors_alone(tmp_path, base):
    made = make_resized(case(llama, "q_proj", "embed_tokens", "lm_head"), base, tmp_path / "adapter")
    without(made.adapter, "base_layer")
    return [made.adapter], ["lm_head: ", "[37, 16]", "has [32, 16]"]


def of_a_weight(tmp_path, base):
    made = make_resized(APPLIED["saved whole"], base, tmp_path / "adapter")
    return [f"{made.adapter}:0.5"], ["weight 0.5 has nothing to start from", "weight 1, or"]


def of_a_configuration(tmp_path, base):
    made = make_resized(with_tokens_of(llama), base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"vocab_size": 99}))
    return [made.adapter], [str(base / "config.json"), "no `vocab_size` of 32"]


def without(folder, *parts):
    from safetensors.numpy import save_file  # noqa: PLC0415

    held = read_file(folder / FILE)
    save_file(
        {key: tensor for key, tensor in held.items() if not any(part in key for part in parts)}, folder / FILE
    )


@pytest.mark.parametrize(
    "how", [of_half, of_an_unknown_base, of_factors_alone, of_a_weight, of_a_configuration]
)
def test_what_is_refused(how, tmp_path, capfd):
    base = base_of(case(llama), tmp_path / "base")
    adapters, words = how(tmp_path, base)
    capfd.readouterr()
    assert main(["adapters", "apply", str(base), *map(str, adapters), "-o", str(tmp_path / "out")]) == 2
    error = capfd.readouterr().err
    assert (
        "resize the base's vocabulary first, as it was for the training, save that, and name it as the base"
        in error
    )
    assert all(word in error for word in words), error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_a_head_that_a_tied_base_follows_no_more(tmp_path):
    """PEFT unties where the embeddings alone are saved whole."""
    chosen = case(TIED, "q_proj", modules_to_save=["embed_tokens"])
    base = base_of(chosen, tmp_path / "base")
    made = make_resized(chosen, base, tmp_path / "adapter")
    apply(base, made.adapter, tmp_path / "out")
    assert HEAD in made.merged
    check_model(tmp_path / "out", made.merged, made.logits)


def test_tokens_of_a_tied_head_by_itself(tmp_path):
    """PEFT writes both into the one matrix, which is neither of the two that were trained."""
    chosen = with_tokens_of(TIED, {"embed_tokens": TOKENS, "lm_head": [34, 2]})
    base = base_of(chosen, tmp_path / "base")
    made = make_resized(chosen, base, tmp_path / "adapter")
    with pytest.raises(PlanError, match=r"changes lm_head, which .* ties to its embeddings"):
        apply(base, made.adapter, tmp_path / "out")


def dense(base, model, out):
    return merge_into_base(base, [model.partition("+")[2]], out, method="ties", density=0.5)


def linear(base, model, out):
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in (model, str(base))]
    return carrick.merge({"merge_method": "linear", "models": models}, out)


def ties(base, model, out):
    models = [{"model": model, "parameters": {"weight": 1, "density": 0.5}}]
    return carrick.merge({"merge_method": "ties", "base_model": str(base), "models": models}, out)


@pytest.mark.parametrize("way", [linear, ties, dense])
def test_beside_models_of_the_original_vocabulary(way, tmp_path):
    """Refused, and what the message says to do: a weight of 0 leaves the resized base."""
    base = base_of(case(llama), tmp_path / "base")
    made = make_resized(with_tokens_of(llama), base, tmp_path / "adapter")
    with pytest.raises(PlanError) as caught:
        way(base, f"{base}+{made.adapter}", tmp_path / "out")
    message = str(caught.value)
    for word in (
        HEAD,
        "[37, 16]",
        "[32, 16]",
        str(made.adapter / FILE),
        f"apply {base} {made.adapter}:0 -o RESIZED",
    ):
        assert word in message, message
    assert not (tmp_path / "out").exists()
    apply(base, f"{made.adapter}:0", tmp_path / "RESIZED")
    found = read_model(tmp_path / "RESIZED")
    assert all(np.array_equal(tensor, made.start[key]) for key, tensor in found.items())
    way(tmp_path / "RESIZED", f"{tmp_path / 'RESIZED'}+{made.adapter}", tmp_path / "out")
    found = read_model(tmp_path / "out")
    if way is linear:
        for key, tensor in found.items():
            np.testing.assert_allclose(
                tensor, 0.5 * (made.start[key] + made.merged[key]), rtol=1e-12, atol=1e-12
            )
    assert found[EMBEDDINGS].shape == (LARGE, 16)


def test_a_vocabulary_that_was_trained_beside_the_original_one(tmp_path):
    base = base_of(case(llama), tmp_path / "base")
    made = make_resized(APPLIED["saved whole"], base, tmp_path / "adapter")
    with pytest.raises(
        PlanError, match="was resized before the training; resize the base's vocabulary first"
    ):
        ties(base, f"{base}+{made.adapter}", tmp_path / "out")


def test_beside_models_of_the_same_vocabulary(tmp_path):
    """The base on disk has the resized vocabulary, and so has `original+adapter`."""
    base = base_of(case(llama), tmp_path / "base")
    made = make_resized(with_tokens_of(llama), base, tmp_path / "adapter")
    resized_model(base).save_pretrained(tmp_path / "resized")
    models = [
        {"model": str(tmp_path / "resized"), "parameters": {"weight": 0.25}},
        {"model": f"{base}+{made.adapter}", "parameters": {"weight": 0.75}},
    ]
    carrick.merge({"merge_method": "linear", "models": models}, tmp_path / "out")
    for key, tensor in read_model(tmp_path / "out").items():
        want = 0.25 * made.start[key] + 0.75 * made.merged[key]
        np.testing.assert_allclose(tensor, want, rtol=1e-12, atol=1e-12, err_msg=key)


def test_inspected(tmp_path, capfd):
    base = base_of(case(TIED), tmp_path / "base")
    made = make_resized(with_tokens_of(TIED), base, tmp_path / "adapter")
    found = {extra.sort: (extra.names, extra.parameters) for extra in inspect(made.adapter).extras}
    assert found == {
        "of the base": ([EMBEDDINGS], LARGE * 16),
        "trained tokens": (["model.embed_tokens"], len(TOKENS) * 16),
    }
    assert main(["adapters", "inspect", str(made.adapter)]) == 0
    assert "trained tokens" in capfd.readouterr().out
