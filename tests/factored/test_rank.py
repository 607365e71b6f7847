"""What counts as zero, and which route says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from factored.harness import Kind, Module, Term, decompose, distance, factors

if TYPE_CHECKING:
    from pathlib import Path

    from factored.harness import Outcome

KINDS: list[Kind] = ["sum", "joint_columns", "joint_rows"]
PRECISIONS = ["float32", "float64"]


def spectrum(sigma: list[float], seed: int = 0, out: int = 40, wide: int = 30) -> Term:
    """A term with these singular values, in float64, in a gauge of no distinction."""
    rng = np.random.default_rng(seed)
    k = len(sigma)
    u = np.linalg.qr(rng.standard_normal((out, k)))[0]
    v = np.linalg.qr(rng.standard_normal((wide, k)))[0]
    gauge = rng.standard_normal((k, k)) + 3 * np.eye(k)
    return Term(np.linalg.solve(gauge, v.T), (u * sigma) @ gauge)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_zero_adapter_stays_exactly_zero(tmp_path: Path, kind: Kind, precision: str) -> None:
    rng = np.random.default_rng(0)
    zero_b, zero_a, no_scale = (factors(rng, 30, 20, 4) for _ in range(3))
    zero_b.b[:] = 0
    zero_a.a[:] = 0
    no_scale.scale = 0.0
    terms = [zero_b, factors(rng, 30, 20, 5), zero_a, factors(rng, 30, 20, 3), no_scale]
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["rank"] == 8
    for i in (0, 2, 4):
        assert not got.p[i].any()
        assert not got.q[i].any()
    assert distance(got.whole, Module(terms).dense(kind)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nothing_but_zeros(tmp_path: Path, kind: Kind, precision: str) -> None:
    terms = [Term(np.ones((2, 5), np.float32), np.zeros((4, 2), np.float32)) for _ in range(2)]
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["rank"] == 0
    assert got.report["norm"] == 0.0
    assert got.report["error"] == 0.0
    assert got.report["min_gap"] == 1.0
    assert {m.size for m in got.p + got.q} == {0}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_rows_and_columns_of_zeros(tmp_path: Path, kind: Kind, precision: str) -> None:
    rng = np.random.default_rng(1)
    terms = [factors(rng, 30, 20, 4), factors(rng, 30, 20, 5)]
    terms[0].a[1] = 0
    terms[1].b[:, 3] = 0
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["rank"] == 7
    assert distance(got.whole, Module(terms).dense(kind)) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_duplicates_add_no_directions(tmp_path: Path, kind: Kind, precision: str) -> None:
    rng = np.random.default_rng(2)
    one, other = factors(rng, 60, 50, 6), factors(rng, 60, 50, 4)
    terms = [one, other, Term(one.a, one.b, 2.0), other]
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["rank"] == 10
    assert distance(got.whole, Module(terms).dense(kind)) < 2e-6
    if kind == "joint_columns":
        assert np.allclose(got.own[2], 2 * got.own[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dependent_rows(tmp_path: Path, kind: Kind, precision: str) -> None:
    rng = np.random.default_rng(3)
    terms = [factors(rng, 30, 20, 4, np.float64), factors(rng, 30, 20, 5, np.float64)]
    terms[0].a[3] = terms[0].a[0] - 2 * terms[0].a[1]
    terms[1].b[:, 4] = terms[1].b[:, 2]
    got = decompose(tmp_path, terms, kind, precision=precision)
    assert got.report["rank"] == 7
    assert distance(got.whole, Module(terms).dense(kind)) < 2e-6


@pytest.mark.parametrize("precision", PRECISIONS)
def test_terms_that_cancel_leave_nothing(tmp_path: Path, precision: str) -> None:
    one = factors(np.random.default_rng(4), 30, 20, 4)
    got = decompose(tmp_path, [one, Term(one.a, one.b, -1.0)], "sum", precision=precision)
    assert got.report["rank"] == 0
    assert got.report["route"] == "householder"
    small = Term(one.a, one.b, -1.0 + 2.0**-30)
    got = decompose(tmp_path, [one, small], "sum", precision=precision)
    assert got.report["rank"] == 4
    assert got.report["sigma"][0] == pytest.approx(2.0**-30 * np.linalg.norm(one.dense, 2), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("smallest", "rank", "route"),
    [
        (1e-3, 3, "gram"),
        (1e-4, 3, "gram"),
        (1e-5, 3, "householder"),
        (1.01e-6, 3, "householder"),
        (0.99e-6, 2, "householder"),
        (1e-8, 2, "gram"),
        (1e-12, 2, "gram"),
    ],
)
def test_values_near_the_cut_take_the_exact_route(
    tmp_path: Path, kind: Kind, smallest: float, rank: int, route: str
) -> None:
    got = decompose(tmp_path, [spectrum([1.0, 0.3, smallest])], kind)
    assert (got.report["rank"], got.report["route"]) == (rank, route)
    assert got.report["sigma"][:2] == pytest.approx([1.0, 0.3], rel=1e-9)
    if rank == 3:
        assert got.report["sigma"][2] == pytest.approx(smallest, rel=1e-4)


def test_a_cut_by_rank_above_the_tolerance_needs_no_exact_route(tmp_path: Path) -> None:
    term = spectrum([1.0, 0.3, 0.1, 1e-6])
    assert decompose(tmp_path, [term], "sum", rank=2).report["route"] == "gram"
    assert decompose(tmp_path, [term], "sum", rank=4).report["route"] == "householder"
    assert decompose(tmp_path, [term], "sum", energy=0.99).report["route"] == "gram"


@pytest.mark.parametrize(
    ("tolerance", "rank", "route"),
    [
        ({"relative": 0.2}, 2, "gram"),
        ({"relative": 1e-9}, 4, "householder"),
        ({"relative": 3e-10}, 4, "householder"),
        ({"relative": 0.0}, 5, "householder"),
        ({"absolute": 0.2}, 3, "gram"),
        ({"absolute": 1e-4}, 3, "gram"),
        ({"absolute": 50.0}, 0, "gram"),
    ],
)
def test_tolerances(tmp_path: Path, tolerance: dict[str, float], rank: int, route: str) -> None:
    term = spectrum([10.0, 3.0, 1.0, 1e-7, 5e-11])
    got = decompose(tmp_path, [term], "joint_columns", tolerance=tolerance)
    assert (got.report["rank"], got.report["route"]) == (rank, route)


@pytest.mark.parametrize("kind", KINDS)
def test_the_routes_agree(tmp_path: Path, kind: Kind) -> None:
    rng = np.random.default_rng(5)
    terms = [spectrum([1.0, 0.5, 0.01, 1e-3], seed) for seed in range(3)]
    terms[1].scale = float(rng.uniform(-2, 2))
    quick, exact = (decompose(tmp_path, terms, kind, precision=precision) for precision in PRECISIONS)
    assert (quick.report["route"], exact.report["route"]) == ("gram", "householder")
    assert np.allclose(quick.report["sigma"], exact.report["sigma"], rtol=1e-9)
    for a, b in zip(quick.p + quick.q, exact.p + exact.q, strict=True):
        assert np.allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    assert distance(quick.shared, exact.shared) < 1e-5


def row_error(got: Outcome, terms: list[Term]) -> float:
    return distance(got.whole, Module(terms).dense(got.kind))


@pytest.mark.parametrize("kind", KINDS)
def test_factors_of_very_different_sizes(tmp_path: Path, kind: Kind) -> None:
    """A gauge that stretches directions by 1e4 either way is no reason to lose them."""
    rng = np.random.default_rng(6)
    plain = [factors(rng, 40, 30, 6, np.float64) for _ in range(2)]
    stretch = np.logspace(-4, 4, 6)
    terms = [Term(t.a * stretch[:, None], t.b / stretch) for t in plain]
    expected, got = (decompose(tmp_path, these, kind) for these in (plain, terms))
    assert got.report["route"] == "gram"
    assert np.allclose(got.report["sigma"], expected.report["sigma"], rtol=1e-9)
    assert row_error(got, plain) < 2e-6


@pytest.mark.parametrize("magnitude", [1e-30, 1e-12, 1e12, 1e30])
@pytest.mark.parametrize("kind", KINDS)
def test_any_magnitude(tmp_path: Path, kind: Kind, magnitude: float) -> None:
    rng = np.random.default_rng(7)
    terms = [factors(rng, 20, 30, 3) for _ in range(2)]
    large = [Term(t.a, t.b, magnitude) for t in terms]
    got = decompose(tmp_path, large, kind)
    assert got.report["rank"] == 6
    assert row_error(got, large) < 2e-6
