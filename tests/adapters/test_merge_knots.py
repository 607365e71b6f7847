"""KnOTS against one dense singular value decomposition in float64: every method, variant and option."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from adapters.merging import (
    DOWN,
    SHAPES,
    Q,
    V,
    distance,
    is_settled,
    knots_oracle,
    lora,
    merged,
    merged_by_document,
    result,
)

METHODS = ["linear", "ties", "magnitude_prune", "dare_linear", "dare_ties"]
DIRECTIONS = ["columns", "rows"]
VARIANTS = {
    "ties": ["reference", "paper", "peft", "mergekit"],
    "dare_ties": ["reference", "peft", "mergekit"],
}
DOUBLE = {"precision": "float64", "dtype": "float64"}
BF16, F16, F32, F64 = (np.dtype(t) for t in (ml_dtypes.bfloat16, np.float16, np.float32, np.float64))
# One rounding of each factor of a product: what the type of the output allows.
ROUNDING = {BF16: 2.0**-8, F16: 2.0**-11, F32: 5e-7, F64: 5e-10}


@pytest.fixture(scope="module")
def three():
    """Ranks that differ from module to module and from adapter to adapter; the third lacks a module."""
    ranks = [{path: 1 + (i + j) % 4 for j, path in enumerate(SHAPES)} for i in range(3)]
    made = [lora(i, rank=rank, alpha=5) for i, rank in enumerate(ranks)]
    del made[2].factors[DOWN.format(1)]
    return made


def check(method, adapters, *, weights=None, density=None, variant=None, seed=0, **parameters):
    """By default within 1e-6 of the oracle, with `precision: float64` within 1e-10."""
    options = {name.removesuffix("_"): value for name, value in parameters.items()}
    common = {"weights": weights, "seed": seed} | ({} if density is None else {"density": density})
    known = {"variant": variant} if variant else {}
    asked = {"method": f"knots_{method}", "parameters": options, **common, **known}
    if not method.startswith("dare_"):
        common.pop("seed")
    wanted = knots_oracle(method, adapters, **common, **known, **parameters)
    assert is_settled(method, adapters, **common, **known, **parameters)
    assert distance(result(merged(adapters, **asked)), wanted) <= 1e-6
    assert distance(result(merged(adapters, **asked, **DOUBLE)), wanted) <= 1e-10


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("method", METHODS)
def test_methods(method, direction, three):
    density = None if method == "linear" else 0.37
    check(
        method, three, density=density, weights=[1.5, -0.75, 0.5], seed=11, direction=direction, lambda_=0.6
    )


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("method", "variant"), [(method, variant) for method, known in VARIANTS.items() for variant in known]
)
def test_variants(method, variant, direction, three):
    check(method, three, density=0.5, weights=[1, 0.5, 2], variant=variant, direction=direction)


OPTIONS = [
    {"trim_scope": "tensor"},
    {"trim_scope": "model"},
    {"kept_count": "at_least_one"},
    {"kept_count": "floor"},
    {"kept_count": "floor_plus_one"},
    {"at_threshold": "lowest_index"},
    {"at_threshold": "all"},
    {"vote": "weighted"},
    {"vote": "sum"},
    {"vote": "frequency"},
    {"zero_vote": "plus"},
    {"zero_vote": "none"},
    {"aggregate": "weighted_mean"},
    {"aggregate": "weighted_mean", "normalize": True},
    {"aggregate": "mean"},
    {"aggregate": "sum"},
    {"aggregate": "max"},
    {"rescale": "true"},
    {"rescale": "l1"},
    {"rescale": "density"},
    {"lambda_": -1.75},
    {"rank_tolerance": 0.2},
    {"rank_tolerance": 0.4, "rank_cut": "absolute"},
]  # fmt: skip


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_of_ties_alone(options, direction, three):
    check("ties", three, density=0.3, weights=[1, -0.5, 2], direction=direction, **options)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.02, 0.5, 0.999, 1.0])
def test_densities(density, three):
    check("ties", three, density=density)


def test_a_density_of_each_adapter(three):
    """By the configuration alone: the function has one density."""
    each = [0.2, 0.5, 0.9]
    report = merged_by_document(
        three,
        {"merge_method": "knots_ties"},
        [{"density": density, "weight": weight} for density, weight in zip(each, [1, 2, 0.5], strict=True)],
    )
    want = knots_oracle("ties", three, density=each, weights=[1, 2, 0.5])
    assert distance(result(report), want) <= 1e-6


def test_the_cut_decides_how_many_directions_there_are(three):
    """A direction more or less is another trim: not the same update with something left out."""
    loose, tight = (
        merged(three, method="knots_ties", density=0.3, parameters={"rank_tolerance": t}) for t in (1e-6, 0.2)
    )
    ranks = [[module["rank"] for module in report.modules] for report in (loose, tight)]
    assert all(a > b for a, b in zip(*ranks, strict=True))
    paths = [module["path"] for module in loose.modules]
    assert [loose.state_dict[f"base_model.model.{p}.lora_A.weight"].shape[0] for p in paths] == ranks[0]


def test_singular_values_and_ranks_are_reported(three):
    report = merged(three, method="knots_ties", density=0.3, **DOUBLE)
    for module in report.modules:
        own = [a.updates()[module["path"]] for a in three if module["path"] in a.factors]
        sigma = np.linalg.svd(np.concatenate(own, axis=1), compute_uv=False)
        kept = sigma[: module["rank"]]
        assert module["rank"] == np.sum(sigma > 1e-6 * sigma[0])
        np.testing.assert_allclose(module["sigma"][: module["rank"]], kept, rtol=1e-10)
        gaps = -np.diff(kept) / kept[:-1]
        assert module["min_gap"] == pytest.approx(gaps.min(), rel=1e-6)
        assert module["error"] == 0


ranks = st.dictionaries(
    st.sampled_from([Q.format(0), V.format(0), DOWN.format(1)]), st.integers(1, 6), min_size=1
)


@st.composite
def some_adapters(draw, dtypes=(F32,), most=5):
    sizes = {path: (draw(st.integers(3, 24)), draw(st.integers(3, 24))) for path in SHAPES}
    dtype = draw(st.sampled_from(dtypes))
    made = []
    for _ in range(draw(st.integers(1, most))):
        own = draw(ranks)
        shapes = {path: sizes[path] for path in own}
        alpha = draw(st.sampled_from([None, 4, 0.5]))
        made.append(
            lora(draw(st.integers(0, 999)), shapes, own, dtype, alpha=alpha, rslora=draw(st.booleans()))
        )
    return made


@settings(max_examples=60)
@given(
    adapters=some_adapters(),
    method=st.sampled_from(METHODS),
    direction=st.sampled_from(DIRECTIONS),
    density=st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]),
    weights=st.lists(st.sampled_from([1.0, 0.5, -1.0, 2.0]), min_size=5, max_size=5),
    variant=st.sampled_from(["reference", "peft"]),
    seed=st.integers(0, 2**64 - 1),
)
def test_any_shapes_ranks_and_numbers(*, adapters, method, direction, density, weights, variant, seed):
    given_ = {"weights": weights[: len(adapters)], "direction": direction}
    known = {}
    if method != "linear":
        given_["density"] = density
    if method in VARIANTS:
        known["variant"] = given_["variant"] = variant
    if method.startswith("dare"):
        given_["seed"] = seed
    assume(is_settled(method, adapters, **given_))
    report = merged(
        adapters,
        method=f"knots_{method}",
        density=given_.get("density"),
        weights=given_["weights"],
        parameters={"direction": direction},
        seed=seed,
        **known,
        **DOUBLE,
    )
    assert distance(result(report), knots_oracle(method, adapters, **given_)) <= 1e-9


@settings(max_examples=40)
@given(adapters=some_adapters((BF16, F16, F32, F64)), density=st.sampled_from([0.2, 0.6, 1.0]))
def test_any_type_is_rounded_once(adapters, density):
    """The factors in, in their own type, and out again: what is between is not rounded to it."""
    assume(is_settled("ties", adapters, density=density))
    report = merged(adapters, method="knots_ties", density=density)
    dtype = adapters[0].factors[next(iter(adapters[0].factors))][0].dtype
    assert {tensor.dtype for tensor in report.state_dict.values()} == {dtype}
    want = knots_oracle("ties", adapters, density=density)
    got = result(report)
    for path, matrix in want.items():
        # ‖δB·A‖ + ‖B·δA‖, with orthonormal columns in B.
        rank = int(report.state_dict[f"base_model.model.{path}.lora_A.weight"].shape[0])
        bound = ROUNDING[dtype] * (1 + np.sqrt(rank)) * np.linalg.norm(matrix)
        assert np.linalg.norm(got[path] - matrix) <= bound
