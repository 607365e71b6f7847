"""Merges of every kind of adapter that PEFT writes, loaded by PEFT and compared with dense float64."""

from __future__ import annotations

import numpy as np
import pytest

import carrick
from adapters.loading import loaded, logits, merged_weights, model_of, onto, updates_of
from adapters.zoo import CASES, bert, case, gpt2, llama, make, qwen2, torch
from carrick.adapters.adapter import read_adapter
from carrick.adapters.keys import tensor_names
from oracles import knots, updates

DOUBLE = {"precision": "float64"}
PLAIN = [
    "linear", "some_layers", "rslora", "patterns", "patterns_rslora", "embedding", "embedding_rslora", "gpt2",
    "gpt2_embedding", "convolutions",
]  # fmt: skip
WEIGHTS = [1.25, -0.5, 0.75]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Three adapters of a case, on one base, each made once."""
    known = {}

    def get(name):
        if name not in known:
            root = tmp_path_factory.mktemp(name)
            known[name] = [make(CASES[name], root / str(seed), seed) for seed in range(3)]
        return known[name]

    return get


def names_of(folders, letter="A"):
    found = {}
    for folder in folders:
        for path, module in read_adapter(folder).modules.items():
            found[path] = tensor_names(path, module.kind)["AB".index(letter)]
    return found


def weighted_sum(dense):
    paths = {path: matrix.shape for own in dense for path, matrix in own.items()}
    zeros = {path: np.zeros(shape) for path, shape in paths.items()}
    return {p: sum(w * own.get(p, zeros[p]) for w, own in zip(WEIGHTS, dense, strict=True)) for p in paths}


def compare(name, folder, want, base, like, *, tolerance=1e-9):
    got = merged_weights(CASES[name], folder)
    expected = onto(base, want, like)
    assert got.keys() == expected.keys()
    for key, tensor in expected.items():
        np.testing.assert_allclose(got[key], tensor, rtol=0, atol=tolerance, err_msg=key)


@pytest.mark.parametrize("name", PLAIN)
def test_the_sum(name, several, tmp_path):
    made = several(name)
    folders = [one.folder for one in made]
    carrick.adapters.merge(folders, tmp_path / "out", weights=WEIGHTS)
    compare(
        name,
        tmp_path / "out",
        weighted_sum([updates_of(f) for f in folders]),
        made[0].base,
        folders,
        tolerance=1e-12,
    )


@pytest.mark.parametrize("name", PLAIN)
def test_knots(name, several, tmp_path):
    made = several(name)
    folders = [one.folder for one in made]
    carrick.adapters.merge(folders, tmp_path / "out", method="knots_ties", weights=WEIGHTS, density=0.4)
    dense = [updates_of(folder) for folder in folders]
    want = knots.merge("ties", dense, names_of(folders), weights=WEIGHTS, density=0.4)
    compare(name, tmp_path / "out", want, made[0].base, folders)


@pytest.mark.parametrize("name", ["embedding", "convolutions", "gpt2", "patterns_rslora"])
def test_knots_by_rows_with_random_masks(name, several, tmp_path):
    made = several(name)
    folders = [one.folder for one in made]
    options = {"direction": "rows", "seed": 5}
    carrick.adapters.merge(
        folders, tmp_path / "out", method="knots_dare_ties", weights=WEIGHTS, density=0.6, seed=5,
        parameters={"direction": "rows"},
    )  # fmt: skip
    dense = [updates_of(folder) for folder in folders]
    want = knots.merge("dare_ties", dense, names_of(folders, "B"), weights=WEIGHTS, density=0.6, **options)
    compare(name, tmp_path / "out", want, made[0].base, folders)


@pytest.mark.parametrize("name", ["linear", "embedding", "convolutions", "gpt2", "patterns_rslora"])
@pytest.mark.parametrize("method", ["ties", "dare_ties", "dare_linear", "magnitude_prune"])
def test_on_updates_at_full_rank(name, method, several, tmp_path):
    """With a rank that nothing is cut by, the adapter is the dense merge."""
    made = several(name)
    folders = [one.folder for one in made]
    carrick.adapters.merge(
        folders, tmp_path / "out", method=method, weights=WEIGHTS, density=0.4, rank=99, seed=2
    )
    dense = [{f"{path}.weight": matrix for path, matrix in updates_of(folder).items()} for folder in folders]
    options = {"seed": 2} if method.startswith("dare") else {}
    found = updates.merge(method, dense, weights=WEIGHTS, density=0.4, **options)
    want = {key.removesuffix(".weight"): matrix for key, matrix in found.items()}
    compare(name, tmp_path / "out", want, made[0].base, folders, tolerance=2e-6)


MODELS = {
    "llama": case(llama, "q_proj", "v_proj", "down_proj", lora_alpha=2),
    "qwen2": case(qwen2, "q_proj", "k_proj", "gate_proj", use_rslora=True, lora_alpha=1),
    "bert": case(bert, "query", "value", "dense", lora_alpha=2),
    "gpt2": case(gpt2, "c_attn", "c_proj", "c_fc", fan_in_fan_out=True, lora_alpha=2),
}
VARIANTS = [
    {"method": "cat"},
    {"method": "cat", "rank": 3},
    {"method": "cat", "energy": 0.8},
    {"method": "task_arithmetic"},
    {"method": "ties", "density": 0.5, "rank": 6},
    {"method": "dare_linear", "density": 0.5, "rank": 6},
    {"method": "dare_ties", "density": 0.5, "rank": 6},
    {"method": "magnitude_prune", "density": 0.5, "rank": 6},
    {"method": "knots_linear"},
    {"method": "knots_ties", "density": 0.5},
    {"method": "knots_ties", "density": 0.5, "rank": 4},
    {"method": "knots_ties", "density": 0.5, "parameters": {"direction": "rows"}},
    {"method": "knots_dare_linear", "density": 0.5},
    {"method": "knots_dare_ties", "density": 0.5},
    {"method": "knots_magnitude_prune", "density": 0.5},
    {"method": "linear", "space": "factors"},
    {"method": "ties", "density": 0.5, "space": "factors"},
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    known = {}

    def get(name):
        if name not in known:
            root = tmp_path_factory.mktemp(f"pair-{name}")
            known[name] = [make(MODELS[name], root / str(seed), seed).folder for seed in range(2)]
        return known[name]

    return get


# Every variant on one model; on the others those that write differently.
ROUND_TRIPS = [("llama", options) for options in VARIANTS]
ROUND_TRIPS += [(name, VARIANTS[i]) for name in ("qwen2", "bert", "gpt2") for i in (0, 1, 4, 9, 10, 15)]


@pytest.mark.parametrize(("name", "options"), ROUND_TRIPS, ids=str)
def test_peft_loads_every_variant(name, options, pairs, tmp_path):
    """No key is missing or left over, and the logits are those of the base with the dense update."""
    folders = pairs(name)
    carrick.adapters.merge(folders, tmp_path / "out", **options)
    chosen = MODELS[name]
    got = logits(loaded(chosen, tmp_path / "out"))
    dense = model_of(chosen)
    want = onto({k: t.numpy() for k, t in dense.state_dict().items()}, updates_of(tmp_path / "out"), folders)
    dense.load_state_dict({key: torch.from_numpy(tensor) for key, tensor in want.items()})
    np.testing.assert_allclose(got, logits(dense), rtol=1e-9, atol=1e-9)
    assert not np.allclose(got, logits(model_of(chosen)), atol=1e-3)


@pytest.mark.parametrize("weights", [[1.0, 1.0], [0.5, -1.25]])
@pytest.mark.parametrize("name", MODELS)
def test_logits_of_the_sum_are_those_of_both_adapters_at_once(name, weights, pairs, tmp_path):
    """PEFT's own forward with two active adapters, without any arithmetic on weights (w = 1)."""
    folders = pairs(name)
    carrick.adapters.merge(folders, tmp_path / "out", weights=weights)
    both = loaded(MODELS[name], folders[0])
    both.load_adapter(folders[1], "other")
    for module in both.modules():
        if isinstance(getattr(module, "scaling", None), dict) and "other" in module.scaling:
            module.scaling["default"] *= weights[0]
            module.scaling["other"] *= weights[1]
    both.base_model.set_adapter(["default", "other"])
    np.testing.assert_allclose(
        logits(loaded(MODELS[name], tmp_path / "out")), logits(both.eval()), rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("name", MODELS)
def test_logits_of_knots_are_those_of_a_dense_merge(name, pairs, tmp_path):
    folders = pairs(name)
    carrick.adapters.merge(folders, tmp_path / "out", method="knots_ties", density=0.5, weights=[1, 0.5])
    want = knots.merge(
        "ties", [updates_of(f) for f in folders], names_of(folders), density=0.5, weights=[1, 0.5]
    )
    dense = model_of(MODELS[name])
    on_base = onto({k: t.numpy() for k, t in dense.state_dict().items()}, want, folders)
    dense.load_state_dict({key: torch.from_numpy(tensor) for key, tensor in on_base.items()})
    np.testing.assert_allclose(
        logits(loaded(MODELS[name], tmp_path / "out")), logits(dense), rtol=1e-5, atol=1e-5
    )
