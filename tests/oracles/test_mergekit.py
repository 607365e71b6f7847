"""The oracles against mergekit 0.1.5 in float32, on tensors without equal magnitudes.

Differences on purpose, not compared here: which of several equal magnitudes mergekit keeps (its sort is not
stable); its random masks (torch's generator); `rescale` of dare_* and della_*, which there is the measured
L1 ratio and here `rescale: l1`; rows of 3-D tensors in della (dimension 1 there, the last one here);
weights and deltas rounded to bfloat16 when the files are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oracles import (
    breadcrumbs,
    dare,
    della,
    linear,
    magnitude_prune,
    model_stock,
    nuslerp,
    slerp,
    task_arithmetic,
    ties,
)
from oracles.dtypes import Array

if TYPE_CHECKING:
    from oracles.estimate import Estimate

Model = dict[str, Array]


@pytest.fixture(scope="module")
def models() -> list[Model]:
    rng = np.random.default_rng(11)
    base = rng.standard_normal((23, 31)).astype(np.float32)
    return [{"w": base}] + [
        {"w": (base + rng.standard_normal(base.shape)).astype(np.float32)} for _ in range(3)
    ]


def mergekit(models: list[Model], method: str, base: bool, parameters: dict[str, Any]) -> Array:
    torch = pytest.importorskip("torch")
    api: Any = pytest.importorskip("mergekit.merge_methods.api")
    tensors = [torch.from_numpy(model["w"]) for model in models]
    result = api.merge_tensors(tensors, method, parameters=parameters, base_index=0 if base else None)
    return np.asarray(result.numpy())


def check(got: dict[str, Estimate], want: Array) -> None:
    np.testing.assert_allclose(got["w"].value, want, rtol=4e-6, atol=4e-6)


W = [0.7, -0.5, 1.25]


@pytest.mark.parametrize("normalize", [True, False])
def test_linear(models: list[Model], normalize: bool) -> None:
    want = mergekit(models[1:], "linear", False, {"weight": W, "normalize": normalize})
    check(linear.merge(models[1:], weight=W, normalize=normalize), want)


@pytest.mark.parametrize("normalize", [True, False])
def test_task_arithmetic(models: list[Model], normalize: bool) -> None:
    want = mergekit(models, "task_arithmetic", True, {"weight": W, "normalize": normalize, "lambda": 0.4})
    check(task_arithmetic.merge(models[0], models[1:], weight=W, normalize=normalize, lambda_=0.4), want)


@pytest.mark.parametrize("density", [0.0, 0.001, 0.2, 0.5, 0.999, 1.0])
@pytest.mark.parametrize(("normalize", "rescale"), [(True, False), (False, False), (True, True)])
def test_ties(models: list[Model], density: float, normalize: bool, rescale: bool) -> None:
    want = mergekit(
        models,
        "ties",
        True,
        {"weight": W, "density": [density] * 3, "normalize": normalize, "lambda": 0.8, "rescale": rescale},
    )
    got = ties.merge(
        models[0],
        models[1:],
        weight=W,
        density=[density] * 3,
        normalize=normalize,
        lambda_=0.8,
        rescale=str(rescale).lower(),
    )
    check(got, want)


@pytest.mark.parametrize("gamma", [0.0, 0.001, 0.1])
@pytest.mark.parametrize("density", [0.3, 0.95, 1.0])
@pytest.mark.parametrize("signs", [False, True])
def test_breadcrumbs(models: list[Model], density: float, gamma: float, signs: bool) -> None:
    name = "breadcrumbs_ties" if signs else "breadcrumbs"
    want = mergekit(models, name, True, {"weight": W, "density": [density] * 3, "gamma": [gamma] * 3})
    oracle = breadcrumbs.ties if signs else breadcrumbs.linear
    check(oracle(models[0], models[1:], weight=W, density=[density] * 3, gamma=[gamma] * 3), want)


@pytest.mark.parametrize("name", ["dare_linear", "dare_ties", "della_linear", "della"])
def test_random_methods_without_randomness(models: list[Model], name: str) -> None:
    want = mergekit(models, name, True, {"weight": W, "density": [1.0] * 3, "normalize": True})
    options: dict[str, Any] = {"weight": W, "density": [1.0] * 3, "normalize": True, "seed": 3}
    if name.startswith("della"):
        oracle: Any = della.ties if name == "della" else della.linear
        options["epsilon"] = [0.1] * 3
    else:
        oracle = dare.ties if name == "dare_ties" else dare.linear
    check(oracle(models[0], models[1:], **options), want)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp(models: list[Model], t: float) -> None:
    check(slerp.merge(models[0], models[1], t=t), mergekit(models[:2], "slerp", True, {"t": t}))
    nearly = [models[0], {"w": models[0]["w"] * np.float32(1.01)}]
    check(slerp.merge(*nearly, t=t), mergekit(nearly, "slerp", True, {"t": t}))


def test_slerp_of_zeros(models: list[Model]) -> None:
    zero = {"w": np.zeros_like(models[0]["w"])}
    check(slerp.merge(zero, models[1], t=0.25), mergekit([zero, models[1]], "slerp", True, {"t": 0.25}))


@pytest.mark.parametrize(("flatten", "row_wise"), [(True, False), (False, False), (False, True)])
@pytest.mark.parametrize("weight", [[0.6, 0.4], [1.0, -1.0], [2.0, -0.5]])
@pytest.mark.parametrize("base", [True, False])
def test_nuslerp(models: list[Model], flatten: bool, row_wise: bool, weight: list[float], base: bool) -> None:
    parameters = {"nuslerp_flatten": flatten, "nuslerp_row_wise": row_wise}
    inputs = models[:3] if base else models[1:3]
    want = mergekit(inputs, "nuslerp", base, parameters | {"weight": weight})
    got = nuslerp.merge(
        models[0] if base else None, *models[1:3], weight=weight, flatten=flatten, row_wise=row_wise
    )
    np.testing.assert_allclose(got["w"].value, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("filter_wise", [False, True])
def test_model_stock(models: list[Model], filter_wise: bool) -> None:
    want = mergekit(models, "model_stock", True, {"filter_wise": filter_wise})
    got = model_stock.merge(models[0], models[1:], filter_wise=filter_wise)
    # float32 cosines, magnified by 1/(1 + 2c)² where three directions of a row nearly cancel
    np.testing.assert_allclose(got["w"].value, want, rtol=2e-5, atol=2e-5)


def test_passthrough(models: list[Model]) -> None:
    check(
        linear.passthrough(models[1], scale=-0.3),
        mergekit(models[1:2], "passthrough", False, {"scale": -0.3}),
    )


def test_magnitude_prune_is_ties_without_an_election(models: list[Model]) -> None:
    """mergekit has no method of this name: one model alone cannot disagree, so TIES stands in."""
    want = mergekit(models[:2], "ties", True, {"weight": [0.7], "density": [0.3], "normalize": False})
    check(magnitude_prune.merge(models[0], models[1:2], weight=[0.7], density=[0.3]), want)
