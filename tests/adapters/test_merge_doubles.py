"""Adapters of which one has factors in F64: all decompositions and what they describe are F64, every module."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.merging import PREFIX, Q, V, distance, knots_oracle, lora, merged, oracle, result

SHAPES = {Q.format(0): (21, 17), V.format(0): (9, 17)}


@pytest.fixture(scope="module")
def mixed():
    """F64 factors on one module, F32 on two: one module is of both types, one of F32 alone."""
    return [lora(1, {Q.format(0): (21, 17)}, dtype=np.float64), lora(2, SHAPES)]


@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize("method", ["linear", "ties", "dare_linear", "magnitude_prune"])
def test_knots(method, direction, mixed):
    own = {} if method == "linear" else {"density": 0.5}
    report = merged(mixed, method=f"knots_{method}", parameters={"direction": direction}, **own)
    want = knots_oracle(method, mixed, direction=direction, **own)
    assert distance(result(report), want) < 2e-6


@pytest.mark.parametrize("rank", [2, 100])
def test_stated_ranks(rank, mixed):
    want = {path: best(matrix, rank) for path, matrix in oracle("task_arithmetic", mixed).items()}
    assert distance(result(merged(mixed, rank=rank)), want) < 2e-6


@pytest.mark.parametrize("method", ["ties", "knots_ties"])
def test_stated_ranks_of_what_is_trimmed(method, mixed):
    report = merged(mixed, method=method, density=0.5, rank=100)
    find, name = (knots_oracle, "ties") if method.startswith("knots_") else (oracle, method)
    options = {} if method.startswith("knots_") else {"variant": "peft"}
    assert distance(result(report), find(name, mixed, density=0.5, **options)) < 2e-6


def test_biases_of_b():
    """A bias in F64 beside factors in F32, and the other way round."""
    adapters = [lora(seed, {Q.format(0): (21, 17)}) for seed in range(2)]
    for adapter, dtype in zip(adapters, (np.float64, np.float32), strict=True):
        adapter.settings["lora_bias"] = True
        adapter.more[f"{Q.format(0)}.lora_B.bias"] = np.arange(21).astype(dtype) / 3
    report = merged(adapters, weights=[2, -1])
    key = f"{PREFIX}{Q.format(0)}.lora_B.bias"
    np.testing.assert_allclose(report.state_dict[key], np.arange(21) / 3, rtol=1e-6)


WAYS = [
    ("ties", {"rank": 3}, True),
    ("ties", {"energy": 0.9}, True),
    ("knots_ties", {"rank": 3}, True),
    ("knots_ties", {"energy": 0.9}, True),
    ("knots_ties", {}, False),
    ("knots_ties", {"rank": 3, "device": "torch:cpu"}, False),
    ("cat", {"rank": 3}, False),
]


@pytest.mark.parametrize("wide", ["precision", "inputs", None])
@pytest.mark.parametrize(("method", "options", "is_cut"), WAYS)
def test_a_cut_that_is_made_in_float32_is_told_of(method, options, is_cut, wide):
    """Where nothing is said, the result has the digits of float64; where something is, it has not."""
    dtype = np.float64 if wide == "inputs" else np.float32
    adapters = [lora(seed, SHAPES, dtype=dtype) for seed in range(2)]
    asked = {"method": method, "density": None if method == "cat" else 0.5, "dtype": "float64", **options}
    asked |= {"precision": "float64"} if wide == "precision" else {}
    report = merged(adapters, **asked)
    notes = [note for note in report.notes if "made in float32" in note]
    assert len(notes) == int(is_cut and wide is not None)
    if wide is None:
        return
    find, name = (knots_oracle, "ties") if method.startswith("knots_") else (oracle, method)
    more = {} if method == "cat" else {"density": 0.5} | ({} if find is knots_oracle else {"variant": "peft"})
    whole = find("task_arithmetic" if method == "cat" else name, adapters, **more)
    ranks = {module["path"]: module["rank"] for module in report.modules}
    want = {path: best(matrix, ranks[path]) for path, matrix in whole.items()}
    assert (distance(result(report), want) > 1e-9) == is_cut


def best(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vt[:rank]


@pytest.mark.parametrize("device", ["cpu", "torch:cpu"])
def test_all_in_doubles(device):
    """F64 inputs are computed in float64, whichever path does it."""
    adapters = [lora(seed, SHAPES, dtype=np.float64) for seed in range(2)]
    knots = merged(adapters, method="knots_ties", density=0.5, device=device)
    assert distance(result(knots), knots_oracle("ties", adapters, density=0.5)) < 1e-12
    want = {path: best(matrix, 2) for path, matrix in oracle("task_arithmetic", adapters).items()}
    assert distance(result(merged(adapters, rank=2, device=device)), want) < 1e-12
