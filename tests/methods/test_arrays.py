"""`carrick.arrays`: the same methods on arrays, golden vectors, PEFT's numbers, the four steps, torch tensors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import carrick
from carrick import arrays
from methods.case import RANDOM, TASK_VECTOR
from methods.strategies import DENSITIES, SHAPES, task_vector_cases, tensors
from oracles import consensus, sparse
from oracles.dtypes import FLOATS, NUMPY
from oracles.estimate import assert_matches
from oracles.random_mask import keep_mask, random_words
from oracles.test_goldens import CASES, X, Y, Z
from oracles.trim import trim_mask

if TYPE_CHECKING:
    from pathlib import Path

    from methods.case import Case
    from oracles.dtypes import Array


def call(case: Case, name: str) -> Array:
    """The function of the method's name on one tensor of a case."""
    columns: dict[str, Any] = {key: [p[key] for p in case.parameters] for key in case.parameters[0]}
    options = {{"lambda": "lambda_"}.get(key, key): value for key, value in case.options.items()}
    options |= {{"weight": "weights"}.get(key, key): values for key, values in columns.items()}
    if case.method in RANDOM:
        options |= {"seed": case.seed, "tensor": name}
    assert case.base is not None
    function = getattr(arrays, case.method)
    result: Array = function([model[name] for model in case.models], base=case.base[name], **options)
    return result


@pytest.mark.parametrize("method", TASK_VECTOR)
def test_methods(method: str) -> None:
    @given(task_vector_cases(method, {"lambda": [1.0, -0.7]}))
    def holds(case: Case) -> None:
        want = case.expected()
        assert case.base is not None
        for name, base in case.base.items():
            got = call(case, name)
            assert got.dtype == base.dtype
            assert_matches(got, want[name], f"{name} of {case}")

    holds()


@pytest.mark.parametrize(("variant", "options", "want"), CASES)
def test_golden_vectors(variant: str, options: dict[str, Any], want: list[float]) -> None:
    given_options = {{"weight": "weights"}.get(key, key): value for key, value in options.items()}
    got = arrays.ties([np.float32(v) for v in (X, Y, Z)], variant=variant, **given_options)
    assert got == pytest.approx(want, abs=1e-6)


def test_recorded_numbers_of_peft(shared: Path) -> None:
    fixture = json.loads((shared / "fixtures" / "peft_merge_utils.json").read_text())
    inputs = [np.array(tensor, np.float32) for tensor in fixture["tensors"]]
    for case in fixture["cases"]:
        options: dict[str, Any] = {"weights": fixture["weights"]}
        if case["density"] is not None:
            options["density"] = case["density"]
        if case["fn"] == "ties":
            options |= {
                "variant": "peft",
                "vote": {"total": "sum"}.get(case["majority_sign_method"], "frequency"),
            }
        if case["fn"] == "magnitude_prune":
            options["kept_count"] = "floor"
        got = getattr(arrays, case["fn"])(inputs, **options)
        np.testing.assert_allclose(got, np.array(case["out"]), atol=1e-6, err_msg=str(case["fn"]))


@given(st.data())
def test_trim(data: st.DataObject) -> None:
    shape, dtype = data.draw(st.sampled_from(SHAPES)), data.draw(st.sampled_from(FLOATS))
    x = data.draw(tensors(shape, dtype, False))
    density = data.draw(st.sampled_from(DENSITIES))
    rule = data.draw(st.sampled_from(["at_least_one", "floor", "floor_plus_one"]))
    at_threshold = data.draw(st.sampled_from(["lowest_index", "all"]))
    got = arrays.trim(x, density, kept_count=rule, at_threshold=at_threshold)
    hub = x.astype(np.float64 if dtype == "F64" else np.float32)
    want = np.where(trim_mask(hub, density, rule, at_threshold), hub, 0).astype(x.dtype)
    assert got.dtype == x.dtype
    assert np.array_equal(got, want)


@given(st.data())
def test_elect_sign_and_disjoint_mean(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(SHAPES))
    inputs = [data.draw(tensors(shape, "F32", False)) for _ in range(data.draw(st.integers(1, 4)))]
    weights = [data.draw(st.sampled_from([1.0, 0.5, -0.5, 2.0])) for _ in inputs]
    vote = data.draw(st.sampled_from(["sum", "frequency"]))
    zero = data.draw(st.sampled_from(["plus", "none"]))
    by_weight = data.draw(st.booleans())
    vectors = [sparse.sparsify(x, np.ones(shape, bool)) for x in inputs]
    want = consensus.elect(consensus.votes(vectors, weights, vote), zero, 0, "mean")
    got = arrays.elect_sign(inputs, vote=vote, zero_vote=zero)
    assert np.array_equal(got, want)

    agree = consensus.agreeing(vectors, weights, vote, want)
    mean = consensus.disjoint_merge(
        vectors,
        weights,
        agree,
        want,
        aggregate="weighted_mean" if by_weight else "mean",
        normalize=True,
    )
    assert_matches(arrays.disjoint_mean(inputs, got, weights=weights, by_weight=by_weight), mean)


@pytest.mark.parametrize("density", [0.0, 0.25, 0.7, 1.0])
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_drop_rescale(density: float, dtype: str) -> None:
    x = np.random.default_rng(1).standard_normal(1000).astype(NUMPY[dtype])
    got = arrays.drop_rescale(x, density, seed=9, index=2, tensor="a.b")
    mask = keep_mask(random_words(9, 2, "a.b", 1000), density)
    assert np.array_equal(got != 0, mask & (x != 0))
    scaled = x.astype(np.float64) / (density or 1)
    unit = {"F32": 2.0**-23, "BF16": 2.0**-8, "F64": 2.0**-52}[dtype]
    np.testing.assert_allclose(got.astype(np.float64), np.where(mask, scaled, 0), rtol=1.01 * unit)


def test_the_steps_make_the_method() -> None:
    rng = np.random.default_rng(2)
    inputs = [rng.standard_normal(10_001).astype(np.float32) for _ in range(3)]
    trimmed = [arrays.trim(x, 0.3) for x in inputs]
    stepwise = arrays.disjoint_mean(trimmed, arrays.elect_sign(trimmed), weights=[1.0, 0.5, 2.0])
    whole = arrays.ties(inputs, density=0.3, weights=[1.0, 0.5, 2.0], variant="peft")
    assert np.array_equal(stepwise, whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "float64"])
def test_torch_tensors(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1)
    inputs = [torch.randn(37, 11, generator=generator).to(getattr(torch, dtype)) for _ in range(3)]
    before = [x.clone() for x in inputs]
    got = arrays.ties(inputs, density=0.4)
    assert isinstance(got, torch.Tensor)
    assert got.dtype == inputs[0].dtype
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    wide = [x.to(torch.float64 if dtype == "float64" else torch.float32).numpy() for x in inputs]
    reference = torch.from_numpy(arrays.ties(wide, density=0.4)).to(inputs[0].dtype)
    assert torch.equal(got, reference)


def test_threads_and_strides_change_nothing() -> None:
    rng = np.random.default_rng(3)
    inputs = [rng.standard_normal((601, 1009)).astype(np.float32) for _ in range(2)]
    want = arrays.ties(inputs, density=0.2, threads=1)
    assert np.array_equal(arrays.ties(inputs, density=0.2, threads=5), want)
    turned = [np.asfortranarray(x) for x in inputs]
    assert np.array_equal(arrays.ties(turned, density=0.2), want)


def test_wrong_calls_say_what_is_wrong() -> None:
    x = np.ones(3, np.float32)
    with pytest.raises(carrick.CarrickError, match="shape"):
        arrays.linear([x, np.ones(4, np.float32)])
    with pytest.raises(carrick.CarrickError, match="density"):
        arrays.ties([x], density=1.5)
    with pytest.raises(carrick.CarrickError, match="variant"):
        arrays.ties([x], variant="megakit")
    with pytest.raises(carrick.CarrickError, match="int32"):
        arrays.linear([np.ones(3, np.int32)])
