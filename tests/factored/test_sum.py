"""The best truncation of a sum of products, against NumPy's SVD of the dense sum."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factored.harness import Module, Term, decompose, decompose_all, distance, factors

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("rank", [None, 1, 4, 9, 100])
def test_it_is_the_best_of_its_rank(tmp_path: Path, precision: str, rank: int | None) -> None:
    rng = np.random.default_rng(0)
    terms = [factors(rng, 50, 40, r, scale=s) for r, s in ((4, 1.0), (7, -0.5), (5, 2.0))]
    got = decompose(tmp_path, terms, "sum", precision=precision, rank=rank)
    u, sigma, vt = np.linalg.svd(Module(terms).dense("sum"))
    k = min(rank or 16, 16)
    assert got.report["rank"] == k
    bound = 1e-10 if precision == "float64" else 2e-6
    assert distance(got.whole, (u[:, :k] * sigma[:k]) @ vt[:k]) <= 10 * bound
    tail = np.sqrt(np.sum(sigma[k:16] ** 2) / np.sum(sigma**2))
    assert got.report["error"] == pytest.approx(tail, rel=1e-6, abs=0)
    assert distance(got.whole, Module(terms).dense("sum")) == pytest.approx(tail, rel=1e-5, abs=bound)
    # All of σ on the left, as PEFT has it: the right side is orthonormal.
    right = np.sum(got.own, axis=0)
    assert np.abs(right @ right.T - np.eye(k)).max() <= 10 * bound
    assert np.allclose(np.linalg.norm(got.shared, axis=0), sigma[:k], rtol=bound * 10)
    assert np.all(got.shared.sum(axis=0) >= 0)


@pytest.mark.parametrize(("energy", "kept"), [(0.5, 1), (0.8, 2), (0.953, 3), (1.0, 3)])
def test_as_many_as_hold_the_energy(tmp_path: Path, energy: float, kept: int) -> None:
    rng = np.random.default_rng(1)
    u, _, vt = np.linalg.svd(rng.standard_normal((9, 8)), full_matrices=False)
    terms = [Term(vt[:3], u[:, :3] * [4.0, 2.0, 1.0])]  # shares 16/21, 4/21, 1/21
    got = decompose(tmp_path, terms, "sum", energy=energy)
    assert got.report["rank"] == kept
    assert got.report["error"] <= np.sqrt(1 - energy) + 1e-12


def test_a_rank_of_the_modules_own_goes_first(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    modules = [
        Module([factors(rng, 9, 9, 5)], name, rank) for name, rank in (("a", None), ("b", 4), ("c", 1))
    ]
    outcomes = decompose_all(tmp_path, modules, "sum", rank=2)
    assert [outcome.report["rank"] for outcome in outcomes] == [2, 4, 1]


def test_singular_values_of_peft(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    terms = [factors(rng, 24, 18, 4, scale=s) for s in (1.0, 0.5)]
    sigma = torch.linalg.svdvals(torch.from_numpy(Module(terms).dense("sum")))
    got = decompose(tmp_path, terms, "sum")
    assert np.allclose(got.report["sigma"], sigma[:8].numpy(), rtol=1e-8)


@given(
    out=st.integers(1, 12),
    wide=st.integers(1, 12),
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rank=st.none() | st.integers(1, 12),
    precision=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(
    *,
    tmp_path_factory: pytest.TempPathFactory,
    out: int,
    wide: int,
    ranks: list[int],
    rank: int | None,
    precision: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    terms = [factors(rng, out, wide, r, np.float64, scale=float(rng.uniform(-2, 2))) for r in ranks]
    got = decompose(tmp_path_factory.mktemp("shape"), terms, "sum", rank=rank, precision=precision)
    dense = Module(terms).dense("sum")
    sigma = np.linalg.svd(dense, compute_uv=False)
    tail = np.sqrt(np.sum(sigma[got.report["rank"] :] ** 2))
    assert np.linalg.norm(got.whole - dense) <= tail * (1 + 1e-6) + 2e-6 * sigma[0]
    assert got.report["rank"] <= min(rank or 12, out, wide, sum(ranks))
