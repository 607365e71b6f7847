"""The joint decomposition [ΔW₁ | … | ΔWₙ] = U·Σ·[V₁ᵀ | … | Vₙᵀ] against NumPy's of the dense matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factored.harness import Kind, Module, Term, decompose, decompose_all, distance, factors

if TYPE_CHECKING:
    from pathlib import Path

    from factored.harness import F64, Outcome

JOINT: list[Kind] = ["joint_columns", "joint_rows"]
BF16 = np.dtype(ml_dtypes.bfloat16)


def check_against_dense(got: Outcome, terms: list[Term], *, exact: bool) -> None:
    """The whole of it, the shared directions up to sign where the spectrum is distinct, and the own parts."""
    dense = Module(terms).dense(got.kind)
    bound = 1e-10 if exact else 2e-6
    u, sigma, vt = np.linalg.svd(dense, full_matrices=False)
    k = got.report["rank"]
    assert k == int(np.sum(sigma > 1e-6 * sigma[0]))
    assert len(got.report["sigma"]) <= min(dense.shape)
    assert np.allclose(got.report["sigma"][:k], sigma[:k], rtol=bound, atol=1e-12 * sigma[0])
    assert distance(got.whole, dense) <= bound
    assert got.report["norm"] == pytest.approx(np.linalg.norm(dense), rel=bound)
    assert got.report["error"] == 0.0
    directions = got.shared if got.kind == "joint_columns" else got.shared.T
    assert directions.shape == (u.shape[0] if got.kind == "joint_columns" else vt.shape[1], k)
    assert np.abs(directions.T @ directions - np.eye(k)).max() <= 100 * bound
    assert np.all(directions.sum(axis=0) >= -1e-6)
    # The same vectors as the dense ones, where neighbours are far enough apart.
    expected = u if got.kind == "joint_columns" else vt.T
    signs = np.sign(np.sum(directions * expected[:, :k], axis=0))
    gaps = np.diff(sigma[: k + 1], append=0.0)[:k] / sigma[:k]
    distinct = np.minimum(np.abs(gaps), np.abs(np.roll(gaps, 1))) > 1e-3 if k > 1 else np.ones(k, bool)
    coordinates = sigma[:k, None] * vt[:k] if got.kind == "joint_columns" else (u[:, :k] * sigma[:k]).T
    own: F64 = np.concatenate(got.own, axis=1) if got.kind == "joint_columns" else np.concatenate(got.own).T
    wrong = np.linalg.norm(own - signs[:, None] * coordinates, axis=1) / sigma[0]
    assert np.all(wrong[distinct] <= 1e4 * bound)
    assert np.all(np.linalg.norm(directions - signs * expected[:, :k], axis=0)[distinct] <= 1e4 * bound)


@pytest.mark.parametrize("kind", JOINT)
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_it_is_the_dense_decomposition(tmp_path: Path, kind: Kind, precision: str, count: int) -> None:
    rng = np.random.default_rng(count)
    terms = [factors(rng, 60, 90, rank, scale=0.5 + i) for i, rank in enumerate([4, 7, 1, 16, 3][:count])]
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["route"] == ("gram" if precision == "float32" else "householder")
    check_against_dense(got, terms, exact=precision == "float64")


@pytest.mark.parametrize("kind", JOINT)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_more_directions_than_rows(tmp_path: Path, kind: Kind, precision: str) -> None:
    rng = np.random.default_rng(0)
    terms = [factors(rng, 20, 25, 12) for _ in range(4)]
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["rank"] == (20 if kind == "joint_columns" else 25)
    check_against_dense(got, terms, exact=precision == "float64")


@pytest.mark.parametrize("kind", JOINT)
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_ranks_beyond_the_side(tmp_path: Path, kind: Kind, precision: str) -> None:
    rng = np.random.default_rng(1)
    terms = [factors(rng, 5, 9, 12), factors(rng, 5, 9, 7)]
    check_against_dense(
        decompose(tmp_path, terms, kind, precision=precision), terms, exact=precision == "float64"
    )


@pytest.mark.parametrize("kind", JOINT)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, BF16])
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_any_dtype_and_either_layout(
    tmp_path: Path, kind: Kind, dtype: Any, transposed: tuple[bool, bool]
) -> None:
    rng = np.random.default_rng(2)
    terms = [factors(rng, 300, 170, rank, dtype) for rank in (5, 18)]
    for term in terms:
        term.transposed = transposed
    check_against_dense(decompose(tmp_path, terms, kind, precision="float64"), terms, exact=True)
    check_against_dense(decompose(tmp_path, terms, kind), terms, exact=False)


def test_rows_that_are_read_in_several_pieces(tmp_path: Path) -> None:
    # 4 MiB hold 2048 rows of 256 float64.
    rng = np.random.default_rng(3)
    terms = [factors(rng, 5000, 4300, 128, np.float64) for _ in range(2)]
    for term, transposed in zip(terms, [(False, True), (True, False)], strict=True):
        term.transposed = transposed
    got = decompose(tmp_path, terms, "joint_columns")
    assert got.report["route"] == "gram"
    x = np.concatenate([t.b for t in terms], axis=1)
    y = np.concatenate(
        [np.concatenate([t.a @ (t.a.T if t is s else 0 * s.a.T) for s in terms], 1) for t in terms]
    )
    squares = np.sort(np.linalg.eigvals(x.T @ x @ y).real)[::-1]
    assert np.allclose(np.square(got.report["sigma"]), squares, rtol=1e-9)
    assert np.abs(got.shared.T @ got.shared - np.eye(256)).max() < 1e-5
    rows = slice(0, 40)
    for own, term in zip(got.own, terms, strict=True):
        assert distance(got.shared[rows] @ own, term.b[rows] @ term.a) < 1e-5


@pytest.mark.parametrize("kind", JOINT)
def test_negative_scales(tmp_path: Path, kind: Kind) -> None:
    rng = np.random.default_rng(4)
    terms = [factors(rng, 30, 20, 4, scale=scale) for scale in (-2.0, 0.25, -1.0)]
    check_against_dense(decompose(tmp_path, terms, kind), terms, exact=False)


@pytest.mark.parametrize("kind", JOINT)
def test_one_by_one(tmp_path: Path, kind: Kind) -> None:
    terms = [Term(np.full((1, 1), a, np.float32), np.full((1, 1), 3, np.float32)) for a in (2.0, -1.0)]
    got = decompose(tmp_path, terms, kind)
    assert got.report["sigma"] == pytest.approx([np.hypot(6, 3)])
    assert got.shared == pytest.approx(1.0)
    assert [own.item() for own in got.own] == pytest.approx([6, -3])


def test_modules_stay_apart_on_any_number_of_threads(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    modules = [
        Module([factors(rng, out, 30, rank) for _ in range(count)], f"layer.{i}")
        for i, (out, rank, count) in enumerate([(40, 3, 2), (10, 8, 3), (70, 1, 1), (20, 5, 3), (64, 16, 2)])
    ]
    results = []
    for threads in (1, 2, 3, 16):
        folder = tmp_path / str(threads)
        folder.mkdir()
        outcomes = decompose_all(folder, modules, "joint_columns", threads=threads)
        for outcome, module in zip(outcomes, modules, strict=True):
            check_against_dense(outcome, module.terms, exact=False)
        results.append(outcomes)
    for others in results[1:]:
        for one, other in zip(results[0], others, strict=True):
            assert one.report == other.report
            assert all(np.array_equal(a, b) for a, b in zip(one.p + one.q, other.p + other.q, strict=True))


def test_progress_and_numbers_of_the_report(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    terms = [factors(rng, 9, 8, 2)]
    u, _, vt = np.linalg.svd(rng.standard_normal((9, 8)), full_matrices=False)
    terms = [Term(vt[:3], u[:, :3] * [4.0, 3.0, 2.0])]
    got = decompose(tmp_path, terms, "joint_columns", precision="float64", progress=print)
    assert got.report["sigma"] == pytest.approx([4, 3, 2])
    assert got.report["min_gap"] == pytest.approx(0.25)
    assert got.report["norm"] == pytest.approx(np.sqrt(29))


@given(
    out=st.integers(1, 12),
    wide=st.integers(1, 12),
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    kind=st.sampled_from(JOINT),
    precision=st.sampled_from(["float32", "float64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_shape(
    *,
    tmp_path_factory: pytest.TempPathFactory,
    out: int,
    wide: int,
    ranks: list[int],
    kind: Kind,
    precision: str,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    terms = [factors(rng, out, wide, rank, np.float64) for rank in ranks]
    folder = tmp_path_factory.mktemp("shape")
    got = decompose(folder, terms, kind, precision=precision)
    dense = Module(terms).dense(kind)
    assert distance(got.whole, dense) <= (1e-9 if precision == "float64" else 1e-5)
    directions = got.shared if kind == "joint_columns" else got.shared.T
    assert np.abs(directions.T @ directions - np.eye(directions.shape[1])).max() <= 1e-3
