"""Trained tokens of several adapters in one: the union of the rows, each merged relative to the base's row."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import carrick
from adapters.dense import applied
from adapters.handmade import HIDDEN, VOCABULARY, Q, adapter, base_tensors, write_base
from adapters.loading import loaded, logits, model_of
from adapters.merging import FILE, PREFIX, distance, meaning
from adapters.tokens import EMBEDDINGS, HEAD, key_of, rows_of, summed, with_tokens
from adapters.zoo import case, llama, llama_tied, make, tensors, torch
from carrick.adapters import merge
from carrick.adapters.adapter import read_adapter
from carrick.adapters.dense import merge_into_base
from carrick.errors import PlanError
from oracles.files import read_file, read_model, write_model

BF16 = ml_dtypes.bfloat16
WEIGHTS = [0.75, -0.5, 1.25]
TOGETHER = {
    "disjoint": ([3, 4], [9], [15, 0]),
    "overlapping": ([3, 4], [4, 3], [4]),
    "some shared": ([7, 3, 4], [4, 19, 0], [3, 5]),
    "one of three": ([], [5, 6], []),
}
WHOLE = {"modules_to_save": "merge"}


def three(indices, dtypes=(np.float32,) * 3):
    """Adapters that trained these rows."""
    return [
        with_tokens(seed, {EMBEDDINGS: rows} if rows else {}, dtype)
        for seed, (rows, dtype) in enumerate(zip(indices, dtypes, strict=True))
    ]


def merged_rows(adapters, base, root, path=EMBEDDINGS, **options):
    """The written rows, and the numbers that adapter_config.json has for them."""
    folders = [one.write(root / f"adapter-{number}") for number, one in enumerate(adapters)]
    report = merge(folders, root / "out", base=base, **{**WHOLE, "weights": WEIGHTS, **options})
    return read_file(root / "out" / FILE)[key_of(path)], report.config["trainable_token_indices"][path]


@pytest.mark.parametrize("name", TOGETHER)
def test_the_union_of_the_rows(name, tmp_path):
    """Dyadic numbers and weights: exact in float32, so that nothing but the formula is left."""
    adapters, base = three(TOGETHER[name]), base_tensors()
    found, numbers = merged_rows(adapters, write_base(tmp_path / "base", base), tmp_path)
    assert numbers == sorted({number for rows in TOGETHER[name] for number in rows})
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, WEIGHTS, strict=True))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, want[numbers])
    got = meaning(
        read_file(tmp_path / "out" / FILE), json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    )
    total = sum(w * one.updates()[Q.format(0)] for one, w in zip(adapters, WEIGHTS, strict=True))
    assert distance(got, {Q.format(0): total}) <= 1e-6


F32, F64, F16 = np.float32, np.float64, np.float16
TYPES = {
    "bfloat16": (BF16, (BF16, BF16, BF16), None),
    "base in bfloat16": (BF16, (F32, F32, F32), None),
    "rows of three types": (F16, (BF16, F32, F16), None),
    "a base in float64": (F64, (F32, F32, F32), None),
    "an adapter in float64": (F32, (F32, F64, F32), None),
    "another type": (F32, (F32, F32, F32), "bfloat16"),
}


@pytest.mark.parametrize("name", TYPES)
def test_types_are_those_of_the_adapters_and_rounded_once(name, tmp_path):
    kind, kinds, dtype = TYPES[name]
    adapters, base = three(TOGETHER["some shared"], kinds), base_tensors(dtype=kind)
    found, numbers = merged_rows(adapters, write_base(tmp_path / "base", base), tmp_path, dtype=dtype)
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, WEIGHTS, strict=True))[numbers]
    written = BF16 if dtype else kinds[0]
    assert found.dtype == written
    np.testing.assert_array_equal(found, want.astype(F32).astype(written))


def test_float64_is_not_computed_in_float32(tmp_path):
    rng = np.random.default_rng(4)
    adapters = three(TOGETHER["some shared"], (F64,) * 3)
    for one in adapters:
        one.more = {name: rng.standard_normal(tensor.shape) for name, tensor in one.more.items()}
    base = {name: rng.standard_normal(tensor.shape) for name, tensor in base_tensors().items()}
    found, numbers = merged_rows(adapters, write_base(tmp_path / "base", base), tmp_path)
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, WEIGHTS, strict=True))[numbers]
    np.testing.assert_allclose(found, want, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "factor"),
    [
        ({"parameters": {"lambda": 0.5, "normalize": True}}, 0.5 / 1.5),
        ({"method": "knots_ties", "density": 0.5, "parameters": {"lambda": 0.5}}, 0.5),
        ({"method": "ties", "density": 0.5, "rank": 2}, 1.0),
    ],
    ids=["scaled and normalised", "KnOTS", "TIES"],
)
def test_whatever_the_method_does_to_the_updates(options, factor, tmp_path):
    adapters, base = three(TOGETHER["some shared"]), base_tensors()
    found, numbers = merged_rows(adapters, write_base(tmp_path / "base", base), tmp_path, **options)
    weights = [factor * weight for weight in WEIGHTS]
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, weights, strict=True))[numbers]
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-6)


def test_weights_by_the_name_of_the_embeddings(tmp_path):
    adapters, base = three(TOGETHER["overlapping"]), base_tensors()
    write_base(tmp_path / "base", base)
    by_name = [{"filter": "embed_tokens", "value": 2}, {"value": 0.5}]
    models = [
        {"model": str(one.write(tmp_path / str(number))), "parameters": {"weight": by_name}}
        for number, one in enumerate(adapters)
    ]
    config = {"merge_method": "cat", "models": models, "base_model": str(tmp_path / "base"), **WHOLE}
    carrick.merge(config, tmp_path / "out")
    want = summed(base[f"{EMBEDDINGS}.weight"], [(one, 2) for one in adapters])
    np.testing.assert_array_equal(read_file(tmp_path / "out" / FILE)[key_of(EMBEDDINGS)], want[[3, 4]])


def test_tokens_are_treated_as_modules_saved_whole(tmp_path):
    """The same rows, once as trained tokens and once in embeddings that are saved whole."""
    rng = np.random.default_rng(8)
    base = {name: rng.standard_normal(tensor.shape).astype(F32) for name, tensor in base_tensors().items()}
    write_base(tmp_path / "base", base)
    tokens, whole = three(TOGETHER["some shared"]), three(([], [], []))
    for one, other in zip(tokens, whole, strict=True):
        embeddings = base[f"{EMBEDDINGS}.weight"].copy()
        for number, row in rows_of(one, EMBEDDINGS).items():
            embeddings[number] = row
        other.settings = {"modules_to_save": ["embed_tokens"]}
        other.more = {f"{EMBEDDINGS}.weight": embeddings}
    found, numbers = merged_rows(tokens, tmp_path / "base", tmp_path)
    folders = [one.write(tmp_path / f"whole-{number}") for number, one in enumerate(whole)]
    merge(folders, tmp_path / "whole", weights=WEIGHTS, base=tmp_path / "base", **WHOLE)
    same = read_file(tmp_path / "whole" / FILE)[f"{PREFIX}{EMBEDDINGS}.weight"]
    assert found.tobytes() == same[numbers].tobytes()


LOADED = {
    "disjoint": (llama, [{"embed_tokens": [1, 5]}, {"embed_tokens": [30]}]),
    "overlapping": (llama, [{"embed_tokens": [1, 5, 30]}, {"embed_tokens": [30, 3]}]),
    "embeddings and head": (llama, [{"embed_tokens": [1, 5], "lm_head": [7]}, {"lm_head": [9, 7]}]),
    "a tied head follows": (llama_tied, [{"embed_tokens": [1, 5, 30]}, {"embed_tokens": [30, 3]}]),
    "a tied head by itself": (llama_tied, [{"lm_head": [1, 5]}, {"lm_head": [5, 3]}]),
}


@pytest.mark.parametrize("name", LOADED)
def test_logits_of_what_peft_loads(name, tmp_path):
    """Adapters that PEFT wrote; no key missing or left over; the logits of a model whose weights are the formula's."""
    model, tokens = LOADED[name]
    chosen = case(model, "q_proj")
    made = [
        make(case(model, "q_proj", trainable_token_indices=one), tmp_path / str(number), number)
        for number, one in enumerate(tokens)
    ]
    start = tensors(model_of(chosen))
    tied = HEAD + ".weight" not in start
    config = {"model_type": "llama", "tie_word_embeddings": tied}
    base = write_model(
        tmp_path / "base", {k: np.ascontiguousarray(t) for k, t in start.items()}, config=config
    )
    merge([one.folder for one in made], tmp_path / "out", weights=WEIGHTS[:2], base=base, **WHOLE)
    got = logits(loaded(chosen, tmp_path / "out"))
    if tied:
        start[f"{HEAD}.weight"] = start[f"{EMBEDDINGS}.weight"]
    alone = [applied(read_adapter(one.folder), start) for one in made]
    if name == "a tied head follows":
        alone = [{**one, f"{HEAD}.weight": one[f"{EMBEDDINGS}.weight"]} for one in alone]
    want = {
        key: tensor + sum(w * (one[key] - tensor) for w, one in zip(WEIGHTS, alone, strict=False))
        for key, tensor in start.items()
    }
    oracle = case(llama).model().double().eval()
    oracle.load_state_dict({key: torch.tensor(tensor) for key, tensor in want.items()})
    np.testing.assert_allclose(got, logits(oracle), rtol=1e-10, atol=1e-10)
    assert np.abs(got - logits(model_of(chosen))).max() > 0.1


def test_the_plan_says_what_is_written(tmp_path):
    adapters = three(TOGETHER["some shared"])
    base = write_base(tmp_path / "base", base_tensors())
    models = [{"model": str(one.write(tmp_path / str(number)))} for number, one in enumerate(adapters)]
    config = {"merge_method": "cat", "models": models, "base_model": str(base), **WHOLE}
    plan = carrick.plan(config, tmp_path / "out")
    assert plan.beside == [key_of(EMBEDDINGS)]
    report = carrick.merge(config, tmp_path / "out")
    written = read_file(tmp_path / "out" / FILE)
    assert plan.bytes_written == sum(tensor.nbytes for tensor in written.values())
    assert written[key_of(EMBEDDINGS)].shape == (6, HIDDEN)
    assert "trained tokens are summed as weighted differences from the base." in report.notes
    assert not any("saved whole" in note for note in report.notes)


def saved_whole():
    made = with_tokens(1, {})
    made.settings = {"modules_to_save": ["embed_tokens"]}
    made.more = {f"{EMBEDDINGS}.weight": np.ones((VOCABULARY, HIDDEN), F32)}
    return made


def untrained():
    """Embeddings that PEFT stores where the vocabulary was resized."""
    made = saved_whole()
    made.settings = {}
    return made


def head_saved():
    made = with_tokens(1, {})
    made.settings = {"modules_to_save": [HEAD]}
    made.more = {f"{HEAD}.weight": np.ones((VOCABULARY, HIDDEN), F32)}
    return made


def factors_of_embeddings():
    made = with_tokens(1, {})
    a, b = np.ones((2, VOCABULARY), F32), np.ones((HIDDEN, 2), F32)
    made.more = {f"{EMBEDDINGS}.lora_embedding_A": a, f"{EMBEDDINGS}.lora_embedding_B": b}
    made.settings = {"r": 2, "lora_alpha": 2, "target_modules": [Q.format(0), EMBEDDINGS]}
    return made


def beyond():
    return with_tokens(1, {EMBEDDINGS: [VOCABULARY]})


def narrow():
    made = with_tokens(1, {EMBEDDINGS: [1]})
    made.more = {name: tensor[:, :-1] for name, tensor in made.more.items()}
    return made


def elsewhere():
    return with_tokens(1, {"model.embedding": [1]})


TIED = {"tie_word_embeddings": True}
UNTOLD = ["--modules-to-save ADAPTER", "(--base BASE --dense)"]
BOTH = {
    "factors": (factors_of_embeddings, {}, ["adapter-1 has LoRA factors for it", *UNTOLD]),
    "saved whole": (saved_whole, {}, ["adapter-1 saves it whole", *UNTOLD]),
    "saved untrained": (untrained, {}, ["adapter-1 saves it whole", *UNTOLD]),
    "a row that the base lacks": (beyond, {}, ["adapter-1: has a trained token 20", "has 20 rows", "resize the"]),
    "of another width": (narrow, {}, ["adapter-1: the trained tokens of", "15 elements each", "[20, 16]"]),
    "of another module": (elsewhere, {}, ["no tensor 'model.embedding.weight', of which", "adapter-1 has trained"]),
    "a head of a tied base": (head_saved, TIED, ["ties its head", "adapter-0, and", "adapter-1 trained it", *UNTOLD]),
    "tokens of a head of a tied base": (
        lambda: with_tokens(1, {HEAD: [1]}), TIED, ["ties its head", "adapter-0, and", "adapter-1 trained it", *UNTOLD]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_what_no_one_adapter_can_hold(name, tmp_path):
    other, config, words = BOTH[name]
    folders = [
        one.write(tmp_path / f"adapter-{number}")
        for number, one in enumerate([with_tokens(0, {EMBEDDINGS: [3, 4]}), other()])
    ]
    held = {key: tensor for key, tensor in base_tensors().items() if not config or HEAD not in key}
    base = write_base(tmp_path / "base", held, **config)
    with pytest.raises(PlanError) as caught:
        merge(folders, tmp_path / "out", base=base, **WHOLE)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert not (tmp_path / "out").exists()


def test_tokens_of_a_tied_base_that_peft_would_tie(tmp_path):
    """Each adapter has other tokens for its head; together they are the same, and the head would follow."""
    tokens = [{EMBEDDINGS: [3], HEAD: [4]}, {EMBEDDINGS: [4], HEAD: [3]}]
    folders = [with_tokens(seed, one).write(tmp_path / str(seed)) for seed, one in enumerate(tokens)]
    held = {key: tensor for key, tensor in base_tensors().items() if HEAD not in key}
    base = write_base(tmp_path / "base", held, **TIED)
    with pytest.raises(PlanError, match="ties its head"):
        merge(folders, tmp_path / "out", base=base, **WHOLE)
    write_base(tmp_path / "untied", base_tensors())
    merge(folders, tmp_path / "out", base=tmp_path / "untied", **WHOLE)


def test_a_base_of_integers(tmp_path):
    folders = [one.write(tmp_path / str(number)) for number, one in enumerate(three(TOGETHER["disjoint"]))]
    integers = {f"{EMBEDDINGS}.weight": np.ones((VOCABULARY, HIDDEN), np.int8)}
    base = write_base(tmp_path / "base", base_tensors(**integers))
    with pytest.raises(
        PlanError, match=r"model\.embed_tokens: is I8 in the base, and .*0 has trained tokens of it"
    ):
        merge(folders, tmp_path / "out", base=base, **WHOLE)


@pytest.mark.parametrize("other", [factors_of_embeddings, untrained])
def test_kept_tokens_beside_what_another_adapter_writes(other, tmp_path):
    """Refused with both names, as PEFT refuses such an adapter; the ways that the message names are open."""
    folders = [
        one.write(tmp_path / f"adapter-{number}")
        for number, one in enumerate([with_tokens(0, {EMBEDDINGS: [3, 4]}), other()])
    ]
    with pytest.raises(PlanError) as caught:
        merge(folders, tmp_path / "out", modules_to_save="1")
    message = str(caught.value)
    assert all(
        word in message
        for word in (
            EMBEDDINGS,
            "adapter-0 has trained tokens of it",
            "adapter-1 has" if other is factors_of_embeddings else "adapter-1 saves",
            *UNTOLD,
        )
    )
    merge(folders, tmp_path / "other", modules_to_save="2")
    assert key_of(EMBEDDINGS) not in read_file(tmp_path / "other" / FILE)


def test_the_dense_way_that_the_message_names(tmp_path):
    one, other = with_tokens(0, {EMBEDDINGS: [3, 4]}), factors_of_embeddings()
    folders = [one.write(tmp_path / "one"), other.write(tmp_path / "other")]
    base = base_tensors()
    merge_into_base(write_base(tmp_path / "base", base), folders, tmp_path / "out", weights=[0.5, 2])
    want = summed(base[f"{EMBEDDINGS}.weight"], [(one, 0.5)])
    want += (
        2 * (other.more[f"{EMBEDDINGS}.lora_embedding_B"] @ other.more[f"{EMBEDDINGS}.lora_embedding_A"]).T
    )
    np.testing.assert_array_equal(read_model(tmp_path / "out")[f"{EMBEDDINGS}.weight"], want)


def test_peft_has_no_adapter_with_tokens_and_factors_of_one_embedding(tmp_path):
    """Why it is refused."""
    with pytest.raises(TypeError, match="trainable_token_indices"):
        make(case(llama, "q_proj", "embed_tokens", trainable_token_indices=[3]), tmp_path)


def test_tokens_without_a_base(tmp_path):
    folders = [one.write(tmp_path / str(number)) for number, one in enumerate(three(TOGETHER["disjoint"]))]
    with pytest.raises(PlanError, match="name it with --base BASE"):
        merge(folders, tmp_path / "out", **WHOLE)
    plain = adapter(3).write(tmp_path / "plain")
    with pytest.raises(
        PlanError, match=r"tokens of model\.embed_tokens.*--modules-to-save merge with --base BASE"
    ):
        merge([folders[0], plain], tmp_path / "out")
