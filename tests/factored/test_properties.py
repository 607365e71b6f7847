"""What must not change the result, and what must change it in step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factored.harness import Kind, Term, decompose, distance, factors

if TYPE_CHECKING:
    from factored.harness import Outcome

KINDS: list[Kind] = ["sum", "joint_columns", "joint_rows"]
kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**32 - 1)


def terms_of(seed: int) -> list[Term]:
    rng = np.random.default_rng(seed)
    return [
        factors(rng, 25, 32, rank, np.float64, scale=scale) for rank, scale in ((4, 1.0), (6, -0.7), (2, 2.0))
    ]


def both(tmp_path_factory: pytest.TempPathFactory, kind: Kind, *cases: list[Term]) -> tuple[Outcome, ...]:
    folders = [tmp_path_factory.mktemp("case") for _ in cases]
    return tuple(
        decompose(folder, terms, kind, precision="float64")
        for folder, terms in zip(folders, cases, strict=True)
    )


def same(a: Outcome, b: Outcome, bound: float = 1e-9) -> bool:
    """The same factors, signs included."""
    gap = a.report["min_gap"]
    return distance(b.shared, a.shared) <= bound / gap and all(
        distance(y, x) <= bound / gap for x, y in zip(a.own, b.own, strict=True)
    )


@given(kind=kinds, seed=seeds)
def test_gauge(tmp_path_factory: pytest.TempPathFactory, kind: Kind, seed: int) -> None:
    plain = terms_of(seed)
    rng = np.random.default_rng(seed + 1)
    turned = []
    for term in plain:
        gauge = rng.standard_normal((len(term.a), len(term.a))) + 4 * np.eye(len(term.a))
        turned.append(Term(gauge @ term.a, np.linalg.solve(gauge.T, term.b.T).T, term.scale))
    a, b = both(tmp_path_factory, kind, plain, turned)
    assert np.allclose(a.report["sigma"], b.report["sigma"], rtol=1e-10)
    if kind == "sum":
        assert distance(b.whole, a.whole) < 1e-10
        assert distance(b.shared, a.shared) <= 1e-9 / a.report["min_gap"]
    else:
        assert same(a, b)


@given(kind=kinds, seed=seeds, order=st.permutations(range(3)))
def test_permutation(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, seed: int, order: list[int]
) -> None:
    plain = terms_of(seed)
    a, b = both(tmp_path_factory, kind, plain, [plain[i] for i in order])
    assert np.allclose(a.report["sigma"], b.report["sigma"], rtol=1e-11)
    assert distance(b.shared, a.shared) <= 1e-9 / a.report["min_gap"]
    for place, i in enumerate(order):
        assert distance(b.own[place], a.own[i]) <= 1e-9 / a.report["min_gap"]


@given(kind=kinds, seed=seeds, factor=st.sampled_from([1e-6, 0.3, 7.0, 1e5]))
def test_scale(tmp_path_factory: pytest.TempPathFactory, kind: Kind, seed: int, factor: float) -> None:
    plain = terms_of(seed)
    scaled = [Term(t.a, t.b, t.scale * factor) for t in plain]
    a, b = both(tmp_path_factory, kind, plain, scaled)
    assert np.allclose(np.multiply(a.report["sigma"], factor), b.report["sigma"], rtol=1e-11)
    assert (a.report["rank"], a.report["error"]) == (b.report["rank"], b.report["error"])
    assert b.report["norm"] == pytest.approx(a.report["norm"] * factor)
    side = [factor, 1.0] if kind == "sum" else [1.0, factor]
    assert distance(b.shared, side[0] * a.shared) <= 1e-9 / a.report["min_gap"]
    for x, y in zip(a.own, b.own, strict=True):
        assert distance(y, side[1] * x) <= 1e-9 / a.report["min_gap"]


@given(kind=kinds, seed=seeds, factor=st.sampled_from([0.25, -8.0]))
def test_a_scale_may_lie_in_a_factor(
    tmp_path_factory: pytest.TempPathFactory, kind: Kind, seed: int, factor: float
) -> None:
    plain = terms_of(seed)
    folded = [Term(t.a * factor, t.b, t.scale / factor) for t in plain]
    a, b = both(tmp_path_factory, kind, plain, folded)
    assert same(a, b, 1e-10)


@given(seed=seeds)
def test_rows_are_columns_of_the_transpose(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    plain = terms_of(seed)
    turned = [Term(t.b.T, t.a.T, t.scale) for t in plain]
    (a,), (b,) = (
        both(tmp_path_factory, "joint_columns", plain),
        both(tmp_path_factory, "joint_rows", turned),
    )
    gap = a.report["min_gap"]
    assert distance(b.shared.T, a.shared) <= 1e-10 / gap
    for x, y in zip(a.own, b.own, strict=True):
        assert distance(y.T, x) <= 1e-10 / gap


@given(seed=seeds)
def test_one_term_side_by_side_is_a_sum(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    plain = terms_of(seed)[:1]
    (a,), (b,) = both(tmp_path_factory, "joint_columns", plain), both(tmp_path_factory, "sum", plain)
    assert np.allclose(a.report["sigma"], b.report["sigma"], rtol=1e-12)
    assert distance(b.whole, a.whole) < 1e-11
