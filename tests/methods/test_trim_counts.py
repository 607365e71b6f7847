"""The trim keeps exactly the entries it says: a base of zeros and one model show the mask itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from methods import engine
from methods.case import Case
from oracles.breadcrumbs import band_mask
from oracles.dtypes import NUMPY, Array
from oracles.trim import trim_mask, trim_masks

if TYPE_CHECKING:
    from pathlib import Path

N = 300_007  # more than two tiles, no multiple of anything


def values(kind: str, n: int = N) -> Array:
    """Entries without zeros, so that what is kept can be seen."""
    rng = np.random.default_rng(8)
    x: Array = rng.standard_normal(n)
    if kind == "bf16":  # differences of bfloat16 numbers: few distinct magnitudes, thousands of each
        a, b = ((x * 0.02 + s).astype(NUMPY["BF16"]).astype(np.float64) for s in (0.0, 0.001))
        x = np.where(a == b, 2.0**-9, a - b)
    elif kind == "equal":
        x = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    elif kind == "sorted":
        x = np.sort(np.abs(x)) + 1e-3
    elif kind == "late":  # all the large ones at the end: a sample of the front says nothing
        x = np.where(np.arange(n) < 0.9 * n, x * 1e-6 + 1e-9, x)
    elif kind == "special":
        x[rng.integers(0, n, 500)] = np.nan
        x[rng.integers(0, n, 500)] = np.inf
        x[rng.integers(0, n, 500)] = 2.0**-149
    x[x == 0] = 1.0
    return x.astype(np.float32)


def kept(
    x: Array, options: dict[str, object], parameters: dict[str, object], method: str, folder: Path
) -> Array:
    """Which entries came through. (A NaN always does; it is left out of the comparison.)"""
    case = Case(method, [{"w": x}], {"w": np.zeros_like(x)}, [{"weight": 1.0} | parameters], options)
    return np.asarray(engine.run(case, folder / "run")["w"] != 0)


@pytest.mark.parametrize("kind", ["normal", "bf16", "equal", "sorted", "late", "special"])
@pytest.mark.parametrize("density", [1e-6, 0.001, 0.2, 0.5, 0.731, 0.9999])
def test_masks_are_exact(kind: str, density: float, tmp_path: Path) -> None:
    x = values(kind)
    want = trim_mask(x, density)
    assert want.sum() == max(1, int(density * N))
    got = kept(x, {}, {"density": density}, "magnitude_prune", tmp_path)
    number = ~np.isnan(x)
    assert np.array_equal(got[number], want[number])


@pytest.mark.parametrize("rule", ["at_least_one", "floor", "floor_plus_one"])
@pytest.mark.parametrize("at_threshold", ["lowest_index", "all"])
@pytest.mark.parametrize("kind", ["normal", "bf16"])
def test_counting_rules(kind: str, rule: str, at_threshold: str, tmp_path: Path) -> None:
    x = values(kind)
    want = trim_mask(x, 0.3, rule, at_threshold)
    options: dict[str, object] = {"kept_count": rule, "at_threshold": at_threshold}
    got = kept(x, options, {"density": 0.3}, "magnitude_prune", tmp_path)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("kind", ["normal", "bf16", "equal"])
@pytest.mark.parametrize("at_threshold", ["lowest_index", "all"])
def test_whole_model(kind: str, at_threshold: str, tmp_path: Path) -> None:
    """Tensors of different scales and dtypes share one threshold; names count in byte order."""
    x = values(kind)
    parts = {"z": x[:140_000], "B": x[140_000:140_003] * 4, "a": x[140_003:] * 0.5}
    model = {name: part.astype(NUMPY["BF16"]) if name == "a" else part for name, part in parts.items()}
    base = {name: np.zeros_like(part) for name, part in model.items()}
    options = {"trim_scope": "model", "at_threshold": at_threshold, "kept_count": "floor"}
    case = Case("magnitude_prune", [model], base, [{"weight": 1.0, "density": 0.4}], options)
    got = engine.run(case, tmp_path / "run")
    deltas = {name: part.astype(np.float32) for name, part in model.items()}
    for name, mask in trim_masks(deltas, 0.4, "model", "floor", at_threshold).items():
        assert np.array_equal(got[name] != 0, mask), name


@pytest.mark.parametrize("kind", ["normal", "bf16", "equal", "late"])
@pytest.mark.parametrize(
    ("density", "gamma"), [(0.5, 0.01), (0.9, 0.0), (0.3, 0.5), (0.95, 0.1), (0.0001, 0.001)]
)
def test_bands_are_exact(kind: str, density: float, gamma: float, tmp_path: Path) -> None:
    x = values(kind)
    want = band_mask(x, density, gamma)
    assert want.sum() == int(density * N)
    got = kept(x, {}, {"density": density, "gamma": gamma}, "breadcrumbs", tmp_path)
    assert np.array_equal(got, want)
