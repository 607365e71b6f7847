"""The exact sum by concatenation, and its best approximation of a lower rank."""

from __future__ import annotations

import warnings

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import carrick
from adapters.loading import updates_of
from adapters.merging import DOWN, FILE, SHAPES, Q, V, distance, lora, merged, merged_by_document, result
from adapters.zoo import llama, peft, randomise, torch
from oracles.files import read_file

PATH = "base_model.model.{}.lora_{}.weight"
RANKS = [{Q.format(0): 2, V.format(0): 5, DOWN.format(1): 1}, 4, 3]


def dense_sum(adapters, weights):
    found = {path: np.zeros(shape) for path, shape in SHAPES.items()}
    for one, weight in zip(adapters, weights, strict=True):
        for path, update in one.updates().items():
            found[path] = found[path] + weight * update
    return found


@pytest.fixture(scope="module")
def three():
    return [lora(seed, rank=rank, alpha=6, rslora=seed == 1) for seed, rank in enumerate(RANKS)]


@pytest.fixture(scope="module")
def in_peft(tmp_path_factory):
    """A model with three adapters in PEFT, and their folders."""
    torch.manual_seed(0)
    configs = {
        "default": {"r": 4, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]},
        "other": {"r": 4, "lora_alpha": 3, "target_modules": ["q_proj", "up_proj"]},
        "third": {"r": 4, "target_modules": ["v_proj", "q_proj"]},
    }
    root = tmp_path_factory.mktemp("in-peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(llama(), peft.LoraConfig(**configs["default"]))
        for name, options in configs.items():
            if name != "default":
                wrapped.add_adapter(name, peft.LoraConfig(**options))
            wrapped.set_adapter(name)
            randomise(wrapped)
        wrapped.save_pretrained(root)
    return wrapped, list(configs), [root, root / "other", root / "third"]


def in_peft_merged(in_peft, weights, kind, **options):
    """PEFT's own merge: A and B by key, and ΔW by path."""
    wrapped, names, _ = in_peft
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.add_weighted_adapter(names, weights, "merged", combination_type=kind, **options)
        state = peft.get_peft_model_state_dict(wrapped, adapter_name="merged")
    dense = {
        path.removeprefix("base_model.model."): module.get_delta_weight("merged").detach().numpy()
        for path, module in wrapped.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    wrapped.delete_adapter("merged")
    return {key: tensor.numpy() for key, tensor in state.items()}, dense


@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, -1.25, 0.3]])
def test_blocks_are_those_of_peft(weights, in_peft, tmp_path):
    """A with all scales, B as it is; PEFT pads modules that not every adapter has with zeros."""
    theirs, dense = in_peft_merged(in_peft, weights, "cat")
    report = carrick.adapters.merge(in_peft[2], tmp_path / "out", weights=weights)
    ours = read_file(tmp_path / "out" / FILE)
    assert ours.keys() == theirs.keys()
    for key, tensor in ours.items():
        wide = theirs[key] if "lora_A" in key else theirs[key].T
        narrow = tensor if "lora_A" in key else tensor.T
        assert not wide[len(narrow) :].any()
        if "lora_B" in key:
            np.testing.assert_array_equal(narrow, wide[: len(narrow)], err_msg=key)
        else:
            np.testing.assert_allclose(narrow, wide[: len(narrow)], rtol=2.0**-22, err_msg=key)
    got = updates_of(tmp_path / "out")
    for path, matrix in dense.items():
        np.testing.assert_allclose(got[path], matrix, atol=2e-6, err_msg=path)
    assert len([note for note in report.notes if "has no update for 2 of the modules" in note]) == 3


@pytest.mark.parametrize("rank", [1, 3, 7, 8])
def test_truncations_are_those_of_peft(rank, in_peft, tmp_path):
    weights = [1.0, -0.5, 2.0]
    _, dense = in_peft_merged(in_peft, weights, "svd", svd_rank=rank)
    carrick.adapters.merge(in_peft[2], tmp_path / "out", weights=weights, rank=rank)
    got = updates_of(tmp_path / "out")
    for path, matrix in dense.items():
        assert np.linalg.norm(got[path] - matrix) <= 1e-5 * np.linalg.norm(matrix), path


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_b_is_copied_and_a_is_rounded_once(dtype):
    adapters = [lora(seed, rank=rank, alpha=6, dtype=dtype) for seed, rank in enumerate(RANKS)]
    weights = [0.3, -1.0, 1.7]
    state = merged(adapters, weights=weights).state_dict
    for path in SHAPES:
        a, b = state[PATH.format(path, "A")], state[PATH.format(path, "B")]
        assert a.dtype == b.dtype == np.dtype(dtype)
        whole = np.concatenate([one.factors[path][1] for one in adapters], axis=1)
        assert b.tobytes() == whole.tobytes()
        exact = np.concatenate([
            w * one.scale(path) * one.factors[path][0].astype(np.float64)
            for w, one in zip(weights, adapters, strict=True)
        ])  # fmt: skip
        # The scale in float32, a product in float32, and then the one rounding to the type.
        step = 2.0**-8 if dtype == ml_dtypes.bfloat16 else 2.0**-11 if dtype == np.float16 else 2.0**-23
        np.testing.assert_allclose(a.astype(np.float64), exact, rtol=step * 1.001, atol=1e-7)


@settings(max_examples=30)
@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    weights=st.lists(st.sampled_from([1.0, -2.0, 0.5, 0.0]), min_size=5, max_size=5),
    scale=st.sampled_from([1.0, 0.25, -2.0]),
    normalize=st.booleans(),
    rslora=st.booleans(),
)
def test_it_is_the_sum(ranks, weights, scale, normalize, rslora):
    adapters = [lora(seed, rank=rank, alpha=3, rslora=rslora) for seed, rank in enumerate(ranks)]
    own = weights[: len(ranks)]
    report = merged(
        adapters, weights=own, parameters={"lambda": scale, "normalize": normalize}, dtype="float64"
    )
    total = sum(own) if normalize and abs(sum(own)) >= 1e-8 else 1.0
    want = dense_sum(adapters, [scale * w / total for w in own])
    got = result(report)
    for path, matrix in want.items():
        assert np.linalg.norm(got[path] - matrix) <= 3e-7 * (np.linalg.norm(matrix) + sum(map(abs, own)))
    assert report.config["r"] == sum(ranks)
    assert report.config["use_rslora"] is False


def test_methods_that_are_sums(three):
    weights = [1, -0.5, 2]
    want = merged(three, weights=weights)
    for method in ("task_arithmetic", "linear"):
        other = merged(three, method=method, weights=weights)
        assert all(np.array_equal(other.state_dict[k], t) for k, t in want.state_dict.items())


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("rank", [1, 2, 5, 8])
def test_the_best_approximation(rank, precision, three):
    """The error is that of the singular values left out, which no matrix of this rank can be below."""
    weights = [1, -0.5, 2]
    report = merged(three, weights=weights, rank=rank, precision=precision, dtype="float64")
    got, want = result(report), dense_sum(three, weights)
    tolerance = 1e-6 if precision == "float32" else 1e-10
    for module in report.modules:
        path = module["path"]
        u, sigma, vt = np.linalg.svd(want[path])
        kept = min(rank, int(np.sum(sigma > 1e-6 * sigma[0])))
        best = (u[:, :kept] * sigma[:kept]) @ vt[:kept]
        tail = np.linalg.norm(sigma[kept:]) / np.linalg.norm(sigma)
        measured = np.linalg.norm(got[path] - want[path]) / np.linalg.norm(want[path])
        assert module["rank"] == kept
        assert np.linalg.norm(got[path] - best) <= 10 * tolerance * np.linalg.norm(best)
        assert measured == pytest.approx(tail, abs=tolerance)
        assert module["error"] == pytest.approx(tail, abs=tolerance)
        count = min(len(module["sigma"]), kept)
        np.testing.assert_allclose(module["sigma"][:count], sigma[:count], rtol=tolerance)


@pytest.mark.parametrize("energy", [0.3, 0.9, 0.999, 1.0])
def test_energy(energy, three):
    """The smallest rank that keeps this share of Σσ²."""
    report = merged(three, energy=energy)
    want = dense_sum(three, [1, 1, 1])
    for module in report.modules:
        sigma = np.linalg.svd(want[module["path"]], compute_uv=False)
        sigma = sigma[sigma > 1e-6 * sigma[0]]
        shares = np.cumsum(sigma**2) / np.sum(sigma**2)
        assert module["rank"] == np.searchsorted(shares, energy * (1 - 1e-9)) + 1, module["path"]


def test_a_rank_above_that_of_the_sum_changes_nothing(three):
    report = merged(three, rank=200)
    assert distance(result(report), dense_sum(three, [1, 1, 1])) <= 1e-6
    assert {m["path"]: m["rank"] for m in report.modules} == {
        path: min(sum(one.rank(path) for one in three), *shape) for path, shape in SHAPES.items()
    }
    assert max(module["error"] for module in report.modules) <= 1e-6


def test_updates_that_cancel(three):
    """A − A is zero: of rank 1, since PEFT has no rank 0."""
    report = merged([three[0], three[0]], weights=[1, -1], rank=4)
    assert not any(matrix.any() for matrix in result(report).values())
    assert {len(tensor) for key, tensor in report.state_dict.items() if "lora_A" in key} == {1}


def test_weights_of_modules(three):
    """`weight` by module: the first filter that is part of the weight's name."""
    filtered = [{"filter": "q_proj", "value": 2.0}, {"filter": "mlp", "value": -1.0}, {"value": 0.5}]
    report = merged_by_document(
        three, {"merge_method": "cat"}, [{"weight": filtered}, {"weight": 1}, {"weight": 3.0}]
    )
    own = {Q.format(0): 2.0, DOWN.format(1): -1.0, V.format(0): 0.5}
    want = {path: dense_sum(three, [own[path], 1, 3])[path] for path in SHAPES}
    assert distance(result(report), want) <= 1e-6


def test_weights_along_the_layers():
    """A list is a gradient from the first layer to the last."""
    shapes = {Q.format(layer): (8, 6) for layer in range(5)}
    adapters = [lora(seed, shapes) for seed in range(2)]
    report = merged_by_document(adapters, {"merge_method": "cat"}, [{"weight": [0.0, 1.0]}, {"weight": 1.0}])
    for layer, path in enumerate(shapes):
        want = layer / 4 * adapters[0].updates()[path] + adapters[1].updates()[path]
        assert np.linalg.norm(result(report)[path] - want) <= 1e-6 * np.linalg.norm(want)


def test_one_adapter_stays_what_it_is(three):
    """rsLoRA becomes a plain scale; B stays to the bit."""
    one = three[1]
    report = merged([one])
    assert distance(result(report), one.updates()) <= 1e-7
    for path, (_, b) in one.factors.items():
        np.testing.assert_array_equal(report.state_dict[PATH.format(path, "B")], b)
