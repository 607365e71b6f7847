"""DARE's and DELLA's masks: the very bits that the rule gives, whatever the dtype, and fair ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from methods import engine
from methods.case import Case
from oracles.della import keep_probability
from oracles.dtypes import NUMPY, Array
from oracles.random_mask import keep_mask, random_words

if TYPE_CHECKING:
    from pathlib import Path

N = 200_003
NAME = "model.layers.0.mlp.up_proj.weight"


def kept(x: Array, folder: Path, method: str = "dare_linear", seed: int = 0, **parameters: Any) -> Array:
    case = Case(method, [{NAME: x}], {NAME: np.zeros_like(x)}, [{"weight": 1.0} | parameters], seed=seed)
    return engine.run(case, folder / "run")[NAME]


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2"])
def test_mask_is_the_rules_whatever_the_dtype(dtype: str, tmp_path: Path) -> None:
    got = kept(np.ones(N, NUMPY[dtype]), tmp_path, seed=12345, density=0.3)
    assert np.array_equal(got != 0, keep_mask(random_words(12345, 0, NAME, N), 0.3))


@pytest.mark.parametrize("seed", [0, 1, 2**32, 2**64 - 1])
def test_seeds(seed: int, tmp_path: Path) -> None:
    got = kept(np.ones(1000, np.float32), tmp_path, seed=seed, density=0.5)
    assert np.array_equal(got != 0, keep_mask(random_words(seed, 0, NAME, 1000), 0.5))


def test_each_model_has_its_own_mask(tmp_path: Path) -> None:
    base = {NAME: np.zeros(N, np.float32)}
    models = [{NAME: np.full(N, value, np.float32)} for value in (1.0, 10.0, 100.0)]
    parameters = [{"weight": 1.0, "density": 0.5}] * 3
    case = Case("dare_linear", models, base, parameters, {"rescale": "false"}, 3)
    got = engine.run(case, tmp_path / "run")[NAME]
    masks = [keep_mask(random_words(3, i, NAME, N), 0.5) for i in range(3)]
    assert np.array_equal(got, masks[0] + 10 * masks[1] + 100 * masks[2])


@pytest.mark.parametrize("density", [0.01, 0.2, 0.5, 0.93])
def test_fraction_kept_and_mean(density: float, tmp_path: Path) -> None:
    """Kept entries are binomial, the rescaled mean is unbiased: both within five standard deviations."""
    got = kept(np.ones(N, np.float32), tmp_path, seed=7, density=density).astype(np.float64)
    deviation = np.sqrt(density * (1 - density) / N)
    assert abs((got != 0).mean() - density) < 5 * deviation
    assert abs(got.mean() - 1) < 5 * deviation / density + 2.0**-22


def test_unbiased_over_seeds(tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    x = rng.standard_normal(64).astype(np.float32)
    draws = np.array([kept(x, tmp_path, seed=seed, density=0.3) for seed in range(300)], np.float64)
    deviation = np.abs(x) * np.sqrt((1 - 0.3) / 0.3 / 300)
    assert (np.abs(draws.mean(axis=0) - x) < 5 * deviation).all()


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("shape", [(200, 500), (3, 7, 11), (1000,), (40, 1)])
def test_della_keeps_by_rank(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    rng = np.random.default_rng(10)
    x = rng.standard_normal(shape).astype(NUMPY[dtype])
    x = np.where(x == 0, x.dtype.type(1), x)
    p = keep_probability(x.astype(np.float32), 0.4, 0.2)
    mask = keep_mask(random_words(5, 0, NAME, x.size).reshape(shape), p)
    got = kept(x, tmp_path, "della_linear", 5, density=0.4, epsilon=0.2)
    assert np.array_equal(got != 0, mask)


def test_della_is_fair(tmp_path: Path) -> None:
    """Large entries are kept more often, the whole as often as the density says, and the sum is unbiased."""
    rng = np.random.default_rng(11)
    x = (np.abs(rng.standard_normal((400, 501))) + 0.1).astype(np.float32)
    got = kept(x, tmp_path, "della_linear", 6, density=0.4, epsilon=0.3).astype(np.float64)
    p = keep_probability(x, 0.4, 0.3)
    assert abs((got != 0).mean() - 0.4) < 5 * np.sqrt((p * (1 - p)).mean() / x.size)
    assert abs((got - x).sum()) < 5 * np.sqrt((x.astype(np.float64) ** 2 * (1 - p) / p).sum())
    large = x > np.median(x, axis=1, keepdims=True)
    assert (got[large] != 0).mean() > 0.5
    assert (got[~large] != 0).mean() < 0.3
