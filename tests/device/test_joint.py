"""The joint SVD from the factors against a dense SVD in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carrick.errors import CarrickError
from carrick.torch import Term, joint_svd
from device.models import random_term, torch_term
from device.oracle import Dense, deltas_of, joint, relative_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch.joint import Joint

DIRECTIONS = pytest.mark.parametrize("direction", ["columns", "rows"])


def check(
    got: Joint,
    dense: Sequence[Dense | None],
    terms: Sequence[Term | None],
    direction: str,
    tolerance: float,
    *,
    vectors: bool = True,
) -> None:
    """Basis, coordinates and singular values are those of the dense SVD; vectors where the spectrum fixes them."""
    deltas = deltas_of(dense)
    basis, coordinates, sigma = joint(deltas, direction, 1e-6)
    k = len(basis) if direction == "rows" else basis.shape[1]
    assert got.rank == k
    assert np.allclose(got.sigma[:k], sigma[:k], rtol=1e-9)
    u, xs = got.basis(terms).double().numpy(), [x.double().numpy() for x in got.coordinates(terms)]
    gram = u.T @ u if direction == "columns" else u @ u.T
    assert np.allclose(gram, np.eye(k), atol=100 * tolerance)
    for x, delta in zip(xs, deltas, strict=True):
        product = u @ x if direction == "columns" else x @ u
        assert np.linalg.norm(product - delta) <= tolerance * sigma[0]
    if vectors:
        assert relative_error(u, basis) < 100 * tolerance
        assert relative_error(np.stack(xs), np.stack(coordinates)) < 100 * tolerance


@DIRECTIONS
@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("ranks", [(3,), (3, 3), (2, 5, 1), (0, 4, 2), (6, 6, 6, 6, 6)])
def test_it_is_the_dense_svd(direction: str, precision: Any, ranks: tuple[int, ...]) -> None:
    rng = np.random.default_rng(sum(ranks))
    batch = [[random_term(rng, 33, 50, r) if r else None for r in ranks] for _ in range(3)]
    terms = [[None if term is None else torch_term(term) for term in module] for module in batch]
    tolerance = 1e-12 if precision == "float64" else 1e-6
    results = joint_svd(terms, direction=direction, precision=precision)  # type: ignore[arg-type]
    for got, module, some in zip(results, batch, terms, strict=True):
        assert got.route == ("householder" if precision == "float64" else "gram")
        check(got, module, some, direction, tolerance)


@DIRECTIONS
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (5, 30), (30, 5), (7, 7)])
def test_more_ranks_than_rows_or_columns(direction: str, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(3)
    dense = [random_term(rng, *shape, 4) for _ in range(3)]
    terms = [torch_term(term) for term in dense]
    check(joint_svd([terms], direction=direction)[0], dense, terms, direction, 2e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_stored_types(dtype: torch.dtype) -> None:
    rng = np.random.default_rng(8)
    terms = [torch_term(random_term(rng, 20, 30, 3), dtype) for _ in range(2)]
    dense = [Dense(t.a.double().numpy(), t.b.double().numpy(), t.scale) for t in terms]
    check(joint_svd([terms])[0], dense, terms, "columns", 1e-6)


def test_a_zero_adapter_is_exactly_zero_and_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    first, second = (random_term(rng, 20, 30, 3) for _ in range(2))
    for precision in ("float32", "float64"):
        for zeroed in (
            replace(second, b=second.b * 0),
            replace(second, a=second.a * 0),
            replace(second, scale=0.0),
        ):
            terms = [torch_term(first), torch_term(zeroed)]
            got = joint_svd([terms], precision=precision)[0]  # type: ignore[arg-type]
            assert got.rank == 3
            if zeroed.scale != 0:
                assert torch.count_nonzero(got.coordinates(terms)[1]) == 0
            alone = joint_svd([terms[:1]], precision=precision)[0]  # type: ignore[arg-type]
            assert np.allclose(got.sigma[:3], alone.sigma, rtol=1e-12)


def test_a_module_of_zeros_has_no_rank() -> None:
    zero = Term(torch.zeros(2, 6), torch.zeros(5, 2))
    cancelling = Term(torch.tensor([[1.0, 2.0], [1.0, 2.0]]), torch.tensor([[1.0, -1.0], [3.0, -3.0]]))
    for terms in ([zero, zero], [cancelling]):
        got = joint_svd([terms])[0]
        assert got.rank == 0
        assert got.basis(terms).shape[1] == 0


def test_copies_and_dependent_rows_have_the_rank_of_one() -> None:
    rng = np.random.default_rng(5)
    one = random_term(rng, 20, 30, 3)
    doubled = Dense(np.concatenate([one.a, one.a]), np.concatenate([one.b, one.b], 1), one.scale / 2)
    dense = [one, one, doubled]
    terms = [torch_term(term) for term in dense]
    check(joint_svd([terms])[0], dense, terms, "columns", 1e-6)


def spectrum(values: Sequence[float], seed: int = 1) -> Dense:
    """One adapter with these singular values, to float32."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((40, len(values))))[0]
    v = np.linalg.qr(rng.standard_normal((50, len(values))))[0]
    return Dense(v.T.astype(np.float64), (u * values).astype(np.float64), 1.0)


@pytest.mark.parametrize(
    ("smallest", "rank", "route"),
    [
        (1e-3, 3, "gram"),
        (1e-5, 3, "householder"),
        (1.1e-6, 3, "householder"),
        (0.9e-6, 2, "householder"),
        (0, 2, "gram"),
    ],
)
def test_a_value_near_the_cut_is_decided_by_householder(smallest: float, rank: int, route: str) -> None:
    term = torch_term(spectrum([1.0, 0.1, smallest]), torch.float64)
    got = joint_svd([[term]])[0]
    assert (got.rank, got.route) == (rank, route)


def test_an_absolute_cut_does_not_scale() -> None:
    term = torch_term(spectrum([1e3, 1.0, 1.2e-5, 0.8e-5]), torch.float64)
    got = joint_svd([[term]], absolute_tolerance=1e-5)[0]
    assert (got.rank, got.route) == (3, "householder")
    assert joint_svd([[term]])[0].rank == 2


def test_gram_and_householder_agree() -> None:
    rng = np.random.default_rng(6)
    terms = [torch_term(random_term(rng, 40, 60, 5)) for _ in range(4)]
    gram, householder = (joint_svd([terms], precision=p)[0] for p in ("float32", "float64"))  # type: ignore[arg-type]
    assert (gram.route, householder.route) == ("gram", "householder")
    assert np.allclose(gram.sigma, householder.sigma, rtol=1e-10)
    for a, b in zip((*gram.p, *gram.q), (*householder.p, *householder.q), strict=True):
        assert a is not None
        assert b is not None
        assert relative_error(a.numpy(), b.numpy()) < 1e-8


@given(
    seed=st.integers(0, 1000),
    outer=st.integers(1, 12),
    inner=st.integers(1, 12),
    ranks=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    exponent=st.integers(0, 5),
)
def test_any_gauge_gives_the_same(seed: int, outer: int, inner: int, ranks: list[int], exponent: int) -> None:
    """B·G⁻¹ and G·A make the same ΔW, however badly G is conditioned (here up to 1e5, in float64)."""
    rng = np.random.default_rng(seed)
    dense = [random_term(rng, outer, inner, r) for r in ranks]
    other = []
    for term, r in zip(dense, ranks, strict=True):
        g = np.linalg.qr(rng.standard_normal((r, r)))[0] * np.logspace(0, exponent, r)
        other.append(Dense(g @ term.a.astype(np.float64), term.b @ np.linalg.inv(g), term.scale))
    terms = [torch_term(term, torch.float64) for term in dense]
    gauged = [torch_term(term, torch.float64) for term in other]
    one, two = joint_svd([terms])[0], joint_svd([gauged])[0]
    assert one.rank == two.rank
    largest = one.sigma[0]
    assert np.allclose(one.sigma[: one.rank], two.sigma[: one.rank], rtol=1e-6, atol=1e-9 * largest)
    u, v = one.basis(terms), two.basis(gauged)
    for x, y in zip(one.coordinates(terms), two.coordinates(gauged), strict=True):
        assert np.linalg.norm((u @ x - v @ y).numpy()) <= 5e-6 * largest


def test_the_basis_has_column_sums_that_are_not_negative() -> None:
    rng = np.random.default_rng(11)
    terms = [torch_term(random_term(rng, 20, 30, 4)) for _ in range(2)]
    assert bool((joint_svd([terms])[0].basis(terms).sum(0) >= 0).all())
    assert bool((joint_svd([terms], direction="rows")[0].basis(terms).sum(1) >= 0).all())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_special_values_are_refused_by_name(value: float) -> None:
    good = Term(torch.ones(2, 3), torch.ones(4, 2))
    bad = Term(torch.ones(2, 3), torch.full((4, 2), value))
    with pytest.raises(CarrickError, match="v_proj: B of adapter 1 holds NaN or infinity"):
        joint_svd([[good, good], [good, bad]], paths=["q_proj", "v_proj"])


def test_the_users_settings_of_float32_do_not_reach_it() -> None:
    rng = np.random.default_rng(12)
    terms = [torch_term(random_term(rng, 64, 64, 8)) for _ in range(2)]
    plain = joint_svd([terms])[0]
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            other = joint_svd([terms])[0]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)
    for p, q in zip(plain.p, other.p, strict=True):
        assert p is not None
        assert q is not None
        assert torch.equal(p, q)
