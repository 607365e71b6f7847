"""What a KnOTS merge must not depend on, and what it must give where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapters.merging import (
    DOWN,
    SHAPES,
    Lora,
    Q,
    V,
    distance,
    is_settled,
    knots_oracle,
    lora,
    merged,
    result,
)

DOUBLE = {"precision": "float64", "dtype": "float64"}
METHODS = ["linear", "ties", "magnitude_prune", "dare_ties"]
TIES = {"method": "knots_ties", "density": 0.4, **DOUBLE}
KEYS = [f"base_model.model.{path}.lora_{letter}.weight" for path in SHAPES for letter in "AB"]


def changed(adapter, change):
    """An adapter with other factors: `change(path, a, b)`."""
    return Lora(
        {path: change(path, a, b) for path, (a, b) in adapter.factors.items()}, adapter.alphas, adapter.rslora
    )


def wide(adapter):
    return changed(adapter, lambda _, a, b: (a.astype(np.float64), b.astype(np.float64)))


def some(count, **options):
    return [wide(lora(seed, rank=2 + seed, **options)) for seed in range(count)]


@settings(max_examples=15)
@given(seed=st.integers(0, 999), method=st.sampled_from(METHODS))
def test_the_gauge_of_the_factors(seed, method):
    """A → G·A with B → B·G⁻¹ is the same adapter."""
    rng = np.random.default_rng(seed)
    adapters = some(3)

    def turn(_, a, b):
        g = np.linalg.qr(rng.standard_normal((len(a), len(a))))[0] * np.exp(rng.uniform(-2, 2, len(a)))
        return g @ a, b @ np.linalg.inv(g)

    one, other = (
        result(
            merged(
                own, method=f"knots_{method}", density=None if method == "linear" else 0.4, seed=3, **DOUBLE
            )
        )
        for own in (adapters, [changed(a, turn) for a in adapters])
    )
    assert distance(other, one) <= 1e-9


def test_signs_of_the_factors():
    """The sign of any rank-1 part may stand in A or in B, and that of an adapter turns the result."""
    adapters = some(3)

    def flip(_, a, b):
        signs = (-1.0) ** np.arange(len(a))
        return signs[:, None] * a, b * signs

    flipped = [changed(a, flip) for a in adapters]
    negative = [changed(a, lambda _, a, b: (a, -b)) for a in adapters]
    want = result(merged(adapters, **TIES))
    assert distance(result(merged(flipped, **TIES)), want) <= 1e-12
    assert distance(result(merged(negative, **TIES)), {p: -m for p, m in want.items()}) <= 1e-12


def test_the_order_of_adapters():
    adapters, weights = some(4), [1, -0.5, 2, 0.25]
    want = result(merged(adapters, weights=weights, **TIES))
    for order in ([3, 1, 0, 2], [1, 0, 3, 2]):
        got = merged([adapters[i] for i in order], weights=[weights[i] for i in order], **TIES)
        assert distance(result(got), want) <= 1e-10


@pytest.mark.parametrize("factor", [1e-4, 0.3, 50.0])
def test_the_scale_of_all_updates(factor):
    """Trim, vote and relative cut do not see it."""
    adapters = some(3)
    scaled = [changed(a, lambda _, a, b: (a, factor * b)) for a in adapters]
    want = {path: factor * matrix for path, matrix in result(merged(adapters, **TIES)).items()}
    assert distance(result(merged(scaled, **TIES)), want) <= 1e-10


@pytest.mark.parametrize("method", METHODS)
def test_where_the_scale_stands(method):
    """α/r, α/√r, a factor of A or one of B: the same update."""
    adapters = some(3)
    options = {"method": f"knots_{method}", "density": None if method == "linear" else 0.4, **DOUBLE}
    plain = [changed(a, lambda _, a, b: (a, 2.5 * b)) for a in adapters]
    in_a = [changed(a, lambda _, a, b: (2.5 * a, b)) for a in adapters]
    by_alpha = [Lora(a.factors, {p: 2.5 * a.rank(p) for p in a.factors}) for a in adapters]
    by_root = [
        Lora(a.factors, {p: 2.5 * np.sqrt(a.rank(p)) for p in a.factors}, rslora=True) for a in adapters
    ]
    want = result(merged(plain, **options))
    for other in (in_a, by_alpha, by_root):
        assert distance(result(merged(other, **options)), want) <= 1e-10


def test_weights_come_after_the_vote():
    """A negative adapter votes with its own sign; all weights times c give c times the merge."""
    adapters = some(3)
    want = result(merged(adapters, weights=[1, -2, 0.5], **TIES))
    assert (
        distance(
            result(merged(adapters, weights=[-3, 6, -1.5], **TIES)), {p: -3 * m for p, m in want.items()}
        )
        <= 1e-12
    )
    # A weight of 0 takes the value away, and not the vote: the others' merge is another.
    without = result(merged(adapters[::2], weights=[1, 0.5], **TIES))
    assert distance(result(merged(adapters, weights=[1, 0, 0.5], **TIES)), without) > 0.1


@pytest.mark.parametrize("method", METHODS[:3])
@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_one_adapter_is_itself(method, direction):
    (one,) = some(1, alpha=7)
    report = merged([one], method=f"knots_{method}", density=None if method == "linear" else 1.0,
                    parameters={"direction": direction}, **DOUBLE)  # fmt: skip
    assert distance(result(report), one.updates()) <= 1e-12


def test_one_adapter_is_trimmed():
    (one,) = some(1)
    got = merged([one], **TIES)
    assert distance(result(got), knots_oracle("ties", [one], density=0.4)) <= 1e-10


@pytest.mark.parametrize("zero", ["A", "B", "both"])
@pytest.mark.parametrize("place", [0, 2])
def test_an_adapter_of_zeros(zero, place):
    """It has no vote and does not count: noise in its place would be a vote in the mean."""
    adapters = [lora(seed, rank=2 + seed) for seed in range(2)]
    nothing = changed(lora(9), lambda _, a, b: (a * (zero == "B"), b * (zero == "A")))
    options = {"method": "knots_ties", "density": 1.0}
    alone = merged(adapters, **options)
    beside = merged([*adapters[:place], nothing, *adapters[place:]], **options)
    assert distance(result(beside), result(alone)) <= 1e-6
    assert distance(result(beside), knots_oracle("ties", adapters)) <= 1e-6
    ranks = [[module["rank"] for module in report.modules] for report in (alone, beside)]
    assert ranks[0] == ranks[1]


@pytest.mark.parametrize("method", METHODS)
def test_nothing_but_zeros(method):
    """Rank 0 is no rank that PEFT takes: one of exact zeros."""
    nothing = [changed(lora(seed), lambda _, a, b: (a, 0 * b)) for seed in range(2)]
    report = merged(nothing, method=f"knots_{method}", density=None if method == "linear" else 0.5)
    assert sorted(report.state_dict) == sorted(KEYS)
    assert all(not tensor.any() and np.all(np.isfinite(tensor)) for tensor in report.state_dict.values())
    assert report.config["r"] == 1
    assert {module["rank"] for module in report.modules} == {0}


def test_one_module_of_zeros():
    adapters = [lora(seed) for seed in range(3)]
    for one in adapters:
        a, b = one.factors[V.format(0)]
        one.factors[V.format(0)] = (a, 0 * b)
    got = result(merged(adapters, method="knots_ties", density=0.5))
    assert not got[V.format(0)].any()
    assert distance(got, knots_oracle("ties", adapters, density=0.5)) <= 1e-6


@pytest.mark.parametrize("density", [0.3, 1.0])
def test_duplicates(density):
    """An adapter n times over: the directions of one, and the mean of equals is each of them."""
    one = lora(4)
    alone = merged([one], method="knots_ties", density=density)
    for count in (2, 5):
        report = merged([one] * count, method="knots_ties", density=density)
        assert [m["rank"] for m in report.modules] == [m["rank"] for m in alone.modules]
        want = result(alone) if density == 1 else knots_oracle("ties", [one] * count, density=density)
        assert distance(result(report), want) <= 1e-6


@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_more_directions_than_the_module_has(direction):
    """Σ r above a side of the weight: no more directions than that."""
    shapes = {V.format(0): (9, 17), Q.format(0): (6, 5)}
    adapters = [lora(seed, shapes, rank=7) for seed in range(4)]
    assert is_settled("ties", adapters, density=0.5, direction=direction)
    report = merged(adapters, method="knots_ties", density=0.5, parameters={"direction": direction})
    want = knots_oracle("ties", adapters, density=0.5, direction=direction)
    assert distance(result(report), want) <= 2e-6
    sides = {V.format(0): (9, 17), Q.format(0): (6, 5)}
    assert {m["path"]: m["rank"] for m in report.modules} == {
        path: side[direction == "rows"] for path, side in sides.items()
    }


def test_a_module_that_one_adapter_has():
    """Zeros of the others: no votes, and a mean over the one that is there."""
    adapters = [lora(0), lora(1, {Q.format(0): SHAPES[Q.format(0)]})]
    got = merged(adapters, method="knots_ties", density=1.0)
    alone = adapters[0].updates()
    assert distance({p: result(got)[p] for p in (V.format(0), DOWN.format(1))},
                    {p: alone[p] for p in (V.format(0), DOWN.format(1))}) <= 1e-6  # fmt: skip
    assert distance(result(got), knots_oracle("ties", adapters)) <= 1e-6
    assert any("has no update for 2 of the modules" in note for note in got.notes)


def test_linear_is_the_sum():
    """KnOTS with task arithmetic is task arithmetic."""
    adapters, weights = some(4), [1, -2, 0.5, 0.25]
    total = result(merged(adapters, method="cat", weights=weights, dtype="float64"))
    assert (
        distance(result(merged(adapters, method="knots_linear", weights=weights, **DOUBLE)), total) <= 1e-12
    )


@settings(max_examples=15)
@given(seed=st.integers(0, 99), rank=st.integers(1, 5), count=st.integers(2, 4))
def test_factors_of_lower_rank_than_they_claim(seed, rank, count):
    """Rows of A that depend on one another: directions of zero are no part of the merge."""
    adapters = [lora(seed + i, rank=2 * rank) for i in range(count)]
    for one in adapters:
        for path, (a, b) in one.factors.items():
            a[rank:] = a[:rank] * np.float32(2)
            one.factors[path] = (a, b)
    assume(is_settled("ties", adapters, density=0.5))
    report = merged(adapters, method="knots_ties", density=0.5)
    sides = {path: min(count * rank, *SHAPES[path]) for path in SHAPES}
    assert {m["path"]: m["rank"] for m in report.modules} == sides
    assert distance(result(report), knots_oracle("ties", adapters, density=0.5)) <= 3e-6


@pytest.mark.parametrize("size", [1e-7, 1e-3, 1e5])
def test_the_size_of_updates_of_many_directions(size):
    """144 directions of one module go through divide and conquer, which is not to take small values for none."""
    shapes = {Q.format(0): (190, 170)}

    def scaled(_, a, b):
        return a, (b * size).astype(b.dtype)

    adapters = [changed(lora(seed, shapes, rank=48), scaled) for seed in range(3)]
    wanted = knots_oracle("ties", adapters, density=0.4)
    assert is_settled("ties", adapters, density=0.4)
    report = merged(adapters, method="knots_ties", density=0.4)
    assert report.modules[0]["rank"] == 144
    assert distance(result(report), wanted) <= 1e-6
