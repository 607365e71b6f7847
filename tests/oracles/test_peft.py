"""The oracles against PEFT's merge_utils: recorded numbers, and PEFT itself where it is installed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oracles import consensus, magnitude_prune, sparse, task_arithmetic, ties

if TYPE_CHECKING:
    from pathlib import Path

    from oracles.dtypes import Array


def oracle(
    fn: str, tensors: list[Array], weights: list[float], density: float | None, vote: str | None
) -> Array:
    base = {"w": np.zeros_like(tensors[0])}
    models = [{"w": tensor} for tensor in tensors]
    densities = [1.0 if density is None else density] * len(models)
    if fn == "task_arithmetic":
        merged = task_arithmetic.merge(base, models, weight=weights)
    elif fn == "magnitude_prune":
        merged = magnitude_prune.merge(base, models, weight=weights, density=densities, kept_count="floor")
    else:
        kind = {"total": "sum", "frequency": "frequency"}[vote or "total"]
        merged = ties.merge(base, models, weight=weights, density=densities, variant="peft", vote=kind)
    return merged["w"].value


def test_recorded_cases(shared: Path) -> None:
    fixture = json.loads((shared / "fixtures" / "peft_merge_utils.json").read_text())
    tensors = [np.array(tensor, np.float32) for tensor in fixture["tensors"]]
    assert len(fixture["cases"]) >= 10
    for case in fixture["cases"]:
        got = oracle(case["fn"], tensors, fixture["weights"], case["density"], case["majority_sign_method"])
        np.testing.assert_allclose(got, np.array(case["out"]), atol=1e-6, err_msg=str(case["fn"]))


@pytest.mark.filterwarnings("ignore:The density 1.0 is greater")
@pytest.mark.parametrize("density", [0.0, 0.13, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("fn", ["task_arithmetic", "magnitude_prune", "ties total", "ties frequency"])
def test_peft_itself(fn: str, density: float) -> None:
    torch = pytest.importorskip("torch")
    merge_utils: Any = pytest.importorskip("peft.utils.merge_utils")
    rng = np.random.default_rng(5)
    tensors = [rng.standard_normal((13, 17)).astype(np.float32) for _ in range(3)]  # no equal magnitudes
    weights = [0.7, -0.5, 1.25]
    arguments = [[torch.from_numpy(t) for t in tensors], torch.tensor(weights)]
    name, _, vote = fn.partition(" ")
    if name != "task_arithmetic":
        arguments.append(density)
    want = getattr(merge_utils, name)(*arguments, **({"majority_sign_method": vote} if vote else {}))
    got = oracle(name, tensors, weights, density, vote or None)
    np.testing.assert_allclose(got, want.numpy(), rtol=3e-6, atol=1e-6)


@pytest.mark.parametrize("vote", ["total", "frequency"])
def test_peft_dare_ties_given_its_own_mask(vote: str) -> None:
    """PEFT draws with torch's generator; with that mask in place of Philox' the arithmetic agrees."""
    torch = pytest.importorskip("torch")
    merge_utils: Any = pytest.importorskip("peft.utils.merge_utils")
    rng = np.random.default_rng(6)
    tensors = [rng.standard_normal(500).astype(np.float32) for _ in range(3)]
    weights, density = [1.0, 0.5, 2.0], 0.4
    torch.manual_seed(0)
    masks = [torch.bernoulli(torch.full((500,), density)).numpy() != 0 for _ in range(3)]
    torch.manual_seed(0)
    want = merge_utils.dare_ties(
        [torch.from_numpy(t) for t in tensors], torch.tensor(weights), density, majority_sign_method=vote
    )
    vectors = [sparse.sparsify(t, m, density, "probability") for t, m in zip(tensors, masks, strict=True)]
    kind = {"total": "sum", "frequency": "frequency"}[vote]
    elected = consensus.elect(consensus.votes(vectors, weights, kind), "plus", 0, "mean")
    agree = consensus.agreeing(vectors, weights, kind, elected)
    got = consensus.disjoint_merge(vectors, weights, agree, elected, aggregate="mean", normalize=True)
    np.testing.assert_allclose(got.value, want.numpy(), rtol=3e-6, atol=1e-6)
