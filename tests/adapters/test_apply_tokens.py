"""Several adapters with trained tokens on one base: base + Σ w·(row − base) of every row that any of them trained."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import carrick
from adapters.handmade import HIDDEN, base_tensors, write_base
from adapters.loading import logits
from adapters.merging import Q
from adapters.tokens import EMBEDDINGS, HEAD, summed, with_tokens
from adapters.zoo import llama_tied, transformers
from carrick.adapters import apply
from carrick.adapters.dense import merge_into_base
from carrick.adapters.example import write_example
from carrick.cli import main
from carrick.errors import ConfigError, PlanError
from carrick.similarity import adapted as similarity_of_adapted
from oracles.files import read_model, write_model

BF16, F16, F32, F64 = ml_dtypes.bfloat16, np.float16, np.float32, np.float64
WEIGHTS = [0.75, -0.5, 1.25]
TOGETHER = {
    "disjoint": ([3, 4], [9], [15, 0]),
    "overlapping": ([3, 4], [4, 3], [4]),
    "some shared": ([7, 3, 4], [4, 19, 0], [3, 5]),
}


def written(root, indices, dtypes=(F32, F32, F32), weights=WEIGHTS):
    """Adapters on disk, and how they are named with their weights."""
    adapters = [
        with_tokens(seed, {EMBEDDINGS: rows}, dtype)
        for seed, (rows, dtype) in enumerate(zip(indices, dtypes, strict=True))
    ]
    folders = [one.write(root / f"adapter-{number}") for number, one in enumerate(adapters)]
    return adapters, [f"{folder}:{weight}" for folder, weight in zip(folders, weights, strict=True)]


@pytest.mark.parametrize("name", TOGETHER)
def test_the_union_of_the_rows(name, tmp_path):
    """Dyadic numbers: exact in float32, whatever the order; the dense merge gives the same."""
    base = base_tensors()
    folder = write_base(tmp_path / "base", base)
    adapters, words = written(tmp_path, TOGETHER[name])
    apply(folder, words, tmp_path / "out")
    apply(folder, words[::-1], tmp_path / "reversed")
    merge_into_base(folder, words, tmp_path / "dense")
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, WEIGHTS, strict=True))
    q = f"{Q.format(0)}.weight"
    total = base[q] + sum(w * one.updates()[Q.format(0)] for one, w in zip(adapters, WEIGHTS, strict=True))
    for out in ("out", "reversed", "dense"):
        found = read_model(tmp_path / out)
        np.testing.assert_array_equal(found[f"{EMBEDDINGS}.weight"], want, err_msg=out)
        np.testing.assert_array_equal(found[q], total, err_msg=out)
    found = read_model(tmp_path / "out")
    assert all(
        found[key].tobytes() == base[key].tobytes() for key in base if key not in {q, f"{EMBEDDINGS}.weight"}
    )


@pytest.mark.parametrize(
    ("of_base", "of_rows"),
    [(BF16, (BF16, BF16, BF16)), (F16, (BF16, F32, F16)), (BF16, (F32, F64, F32)), (F64, (F32, F32, F32))],
    ids=["bfloat16", "three types", "an adapter in float64", "a base in float64"],
)
def test_types_are_those_of_the_base_and_rounded_once(of_base, of_rows, tmp_path):
    base = base_tensors(dtype=of_base)
    adapters, words = written(tmp_path, TOGETHER["some shared"], of_rows)
    apply(write_base(tmp_path / "base", base), words, tmp_path / "out")
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, WEIGHTS, strict=True))
    found = read_model(tmp_path / "out")[f"{EMBEDDINGS}.weight"]
    assert found.dtype == of_base
    np.testing.assert_array_equal(found, want.astype(F32).astype(of_base))


def test_whole_rows_are_copied_bit_for_bit(tmp_path):
    """With the weight 1, and where no other adapter trained the row."""
    rng = np.random.default_rng(6)
    base = {name: rng.standard_normal(t.shape).astype(F32) for name, t in base_tensors().items()}
    adapters, words = written(tmp_path, TOGETHER["disjoint"], weights=[1.0, 1.0, 1.0])
    for number, one in enumerate(adapters):
        one.more = {name: rng.standard_normal(t.shape).astype(F32) for name, t in one.more.items()}
        one.write(tmp_path / f"adapter-{number}")
    apply(write_base(tmp_path / "base", base), words, tmp_path / "out")
    want = base[f"{EMBEDDINGS}.weight"].copy()
    for one, rows in zip(adapters, TOGETHER["disjoint"], strict=True):
        want[rows] = next(iter(one.more.values()))
    assert read_model(tmp_path / "out")[f"{EMBEDDINGS}.weight"].tobytes() == want.tobytes()


def test_large_embeddings_of_odd_sizes(tmp_path):
    """Several tiles, runs of rows across their ends, rows in no order; little memory and two threads."""
    rng = np.random.default_rng(5)
    rows, columns = 4099, 333
    base = {f"{EMBEDDINGS}.weight": rng.standard_normal((rows, columns)).astype(F32)}
    folder = write_model(tmp_path / "base", base)
    adapters, words = [], []
    for number in range(3):
        run = np.arange(700 + 100 * number, 3000)
        chosen = np.concatenate([rng.permutation(600)[:300], run, [rows - 1 - number]])
        one = with_tokens(number, {EMBEDDINGS: [int(row) for row in chosen]})
        one.factors = {}
        trained = rng.standard_normal((len(chosen), columns)).astype(F32)
        one.more = dict.fromkeys(one.more, trained)
        adapters.append(one)
        words.append(f"{one.write(tmp_path / str(number))}:{WEIGHTS[number]}")
    apply(folder, words, tmp_path / "out", memory="64MiB", threads=2)
    want = summed(base[f"{EMBEDDINGS}.weight"], zip(adapters, WEIGHTS, strict=True))
    found = read_model(tmp_path / "out")[f"{EMBEDDINGS}.weight"]
    np.testing.assert_allclose(found, want, rtol=1e-6, atol=1e-6)
    assert np.abs(found - base[f"{EMBEDDINGS}.weight"]).max() > 1


def test_a_tied_head_follows(tmp_path):
    model = llama_tied().eval()
    model.save_pretrained(tmp_path / "base")
    base = read_model(tmp_path / "base")
    adapters = [with_tokens(seed, {EMBEDDINGS: rows}) for seed, rows in enumerate(([3, 30], [30, 1]))]
    words = [f"{one.write(tmp_path / str(number))}:0.5" for number, one in enumerate(adapters)]
    report = apply(tmp_path / "base", words, tmp_path / "out")
    assert any(f"the head is tied to {EMBEDDINGS}.weight and follows" in note for note in report.notes)
    found = read_model(tmp_path / "out")
    assert f"{HEAD}.weight" not in found
    want = summed(base[f"{EMBEDDINGS}.weight"], [(one, 0.5) for one in adapters])
    np.testing.assert_allclose(found[f"{EMBEDDINGS}.weight"], want, rtol=1e-6, atol=1e-6)
    torch = pytest.importorskip("torch")
    state = model.state_dict()
    state[f"{EMBEDDINGS}.weight"].copy_(torch.tensor(want))
    update = sum(0.5 * one.updates()[Q.format(0)] for one in adapters)
    state[f"{Q.format(0)}.weight"].add_(torch.tensor(update))
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    np.testing.assert_allclose(logits(again), logits(model), rtol=1e-5, atol=1e-5)


def test_models_with_such_adapters_are_compared(tmp_path, monkeypatch):
    """`base+one+other` in a comparison has the same rows, read by four at a time, between two of which a run is cut."""
    monkeypatch.setattr(similarity_of_adapted, "_BLOCK", 8 * HIDDEN * 4)
    base = base_tensors()
    folder = write_base(tmp_path / "base", base)
    adapters, words = written(tmp_path, TOGETHER["some shared"])
    models = [f"{folder}+{'+'.join(words)}", f"{folder}+{words[0]}+{words[1]}"]
    found = carrick.similarity(models, folder)
    name = f"{EMBEDDINGS}.weight"
    pairs = list(zip(adapters, WEIGHTS, strict=True))
    vectors = [(summed(base[name], pairs[:count]) - base[name]).ravel() for count in (3, 2)]
    (part,) = (part for part in found.by_tensor if part.name == name)
    norms = [np.linalg.norm(vector) for vector in vectors]
    np.testing.assert_allclose(part.norms, norms, rtol=1e-12)
    np.testing.assert_allclose(part.cosine[0][1], vectors[0] @ vectors[1] / np.prod(norms), rtol=1e-12)


def test_rows_beside_factors_of_another_adapter(tmp_path):
    """Factors of the same embedding beside one's tokens: with a second adapter's rows the order would matter."""
    one, other = (with_tokens(seed, {EMBEDDINGS: [3, 4]}) for seed in range(2))
    one.more[f"{EMBEDDINGS}.lora_embedding_A"] = np.ones((2, 20), F32)
    one.more[f"{EMBEDDINGS}.lora_embedding_B"] = np.ones((HIDDEN, 2), F32)
    one.settings |= {"r": 2, "lora_alpha": 2}
    folders = [made.write(tmp_path / str(number)) for number, made in enumerate((one, other))]
    base = write_base(tmp_path / "base", base_tensors())
    for order in (folders, folders[::-1]):
        with pytest.raises(PlanError) as caught:
            apply(base, order, tmp_path / "out")
        assert all(str(folder) in str(caught.value) for folder in folders)
    assert not (tmp_path / "out").exists()


def test_a_seed_is_recorded_and_changes_no_weight(tmp_path, capfd):
    base, adapter = write_example()
    words = ["adapters", "apply", str(base), f"{adapter}:0.5"]
    assert main([*words, "-o", str(tmp_path / "seven"), "--seed", "7"]) == 0
    apply(base, f"{adapter}:0.5", tmp_path / "same", seed=7)
    apply(base, f"{adapter}:0.5", tmp_path / "none")
    records = {
        name: json.loads((tmp_path / name / "carrick.json").read_text()) for name in ("seven", "same", "none")
    }
    assert [records[name]["seed"] for name in records] == [7, 7, 0]
    assert records["seven"] == records["same"]
    assert records["seven"]["tensors"] == records["none"]["tensors"]
    capfd.readouterr()
    assert main([*words, "-o", str(tmp_path / "out"), "--seed", "-1"]) == 2
    assert "error: seed is -1: it must be a whole number from 0 to 2**64 - 1" in capfd.readouterr().err
    with pytest.raises(ConfigError, match="seed is 18446744073709551616"):
        apply(base, adapter, tmp_path / "out", seed=1 << 64)
    assert not (tmp_path / "out").exists()
    assert main(["adapters", "apply", "--help"]) == 0
    assert "nothing is drawn at random" in " ".join(capfd.readouterr().out.replace("│", " ").split())
