"""Exact counts of trims and the election of signs, on coordinates with masses of equal magnitudes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from carrick.torch import consensus, read_options
from carrick.torch.threshold import count_equals, find_cutoffs, keep, shares
from oracles import trim
from oracles.sparse import Sparse
from oracles.ties import VARIANTS, elect_and_merge

if TYPE_CHECKING:
    from oracles.dtypes import Array

VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 1e-40, -3e38, 1.0000001])
RULES = st.sampled_from(["at_least_one", "floor", "floor_plus_one"])
DENSITY = st.one_of(st.sampled_from([0.0, 1.0, 0.5]), st.floats(0, 1))


def tensors(sizes: list[int], values: st.SearchStrategy[float], kind: type) -> st.SearchStrategy[list[Array]]:
    return st.tuples(*(st.lists(values, min_size=n, max_size=n) for n in sizes)).map(
        lambda lists: [np.array(x, kind) for x in lists]
    )


@st.composite
def trims(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(st.sampled_from([np.float32, np.float64]))
    sizes = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    adapters = draw(st.integers(1, 3))
    return {
        "kind": kind,
        "tensors": [draw(tensors(sizes, VALUES, kind)) for _ in range(adapters)],
        "density": [draw(DENSITY) for _ in range(adapters)],
        "rule": draw(RULES),
        "equals": draw(st.sampled_from(["lowest_index", "all"])),
    }


@given(trims())
def test_trim_over_all_tensors_keeps_what_the_oracle_keeps(case: dict[str, Any]) -> None:
    adapters = len(case["tensors"])
    options = read_options(
        "knots_ties",
        adapters,
        density=case["density"],
        kept_count=case["rule"],
        at_threshold=case["equals"],
        precision="float32" if case["kind"] is np.float32 else "float64",
    )
    modules = [[torch.from_numpy(x) for x in module] for module in zip(*case["tensors"], strict=True)]
    entries = sum(x[0].numel() for x in modules)
    whole = find_cutoffs(lambda count: (count(module) for module in modules), entries, options)
    equals = [[count_equals(x, cut) for x, cut in zip(module, whole, strict=True)] for module in modules]
    for place, (module, cutoffs) in enumerate(zip(modules, shares(whole, equals), strict=True)):
        for adapter, x in enumerate(module):
            wanted = trim.trim_masks(
                {str(n): t for n, t in enumerate(case["tensors"][adapter])},
                case["density"][adapter],
                "model",
                case["rule"],
                case["equals"],
            )[str(place)]
            got = keep(cutoffs[adapter], x).numpy()
            assert np.array_equal(got, np.where(wanted, x.numpy(), 0)), (adapter, place)


SMALL = st.sampled_from([0.0, 1.0, -1.0, 2.0, -2.0, 3.0, 0.5])


@st.composite
def elections(draw: st.DrawFn) -> dict[str, Any]:
    adapters, size = draw(st.integers(1, 4)), draw(st.integers(1, 10))
    return {
        "xs": draw(tensors([size] * adapters, SMALL, np.float32)),
        "weights": [draw(st.sampled_from([1.0, 0.5, -1.0, 2.0, 0.0])) for _ in range(adapters)],
        "vote": draw(st.sampled_from(["weighted", "sum", "frequency"])),
        "zero_vote": draw(st.sampled_from(["plus", "none", "majority"])),
        "aggregate": draw(st.sampled_from(["weighted_mean", "mean", "sum", "max"])),
        "normalize": draw(st.booleans()),
        "lambda_": draw(st.sampled_from([1.0, 0.5, -2.0])),
    }


@given(elections())
def test_elections_are_those_of_the_oracle(case: dict[str, Any]) -> None:
    xs, weights = case.pop("xs"), case.pop("weights")
    options = read_options("knots_ties", len(xs), weights=weights, density=1, **case)
    ballots = consensus.ballots([torch.from_numpy(x) for x in xs], weights, options.vote)
    tally = consensus.votes(ballots, options.vote)
    majority = int((tally > 0).sum() - (tally < 0).sum())
    got = consensus.merge([torch.from_numpy(x) for x in xs], weights, options, majority).numpy()
    sparse = [Sparse(x, x.astype(np.float64), np.isnan(x)) for x in xs]
    zeros = {"t": np.zeros(len(xs[0]), np.float32)}
    wanted = elect_and_merge(zeros, {"t": sparse}, weights, **case)["t"]
    assert np.all(np.abs(got - wanted.value) <= wanted.bound + 1e-30)


def test_the_variants_are_those_of_the_oracle() -> None:
    for variant, row in VARIANTS.items():
        options = read_options("knots_ties", 1, density=0.5, variant=variant)
        assert {key: getattr(options, key) for key in row} == row
