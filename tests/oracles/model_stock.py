"""Model Stock (Jang et al., 2403.19522): t = N·c/(1 + (N - 1)·c), c the mean cosine over pairs."""

from __future__ import annotations

from itertools import combinations

import numpy as np

from .dtypes import Array, smallest, unit_roundoff, working
from .estimate import Estimate
from .sparse import task_vector

NORM_PRODUCT_FLOOR = 1e-6
SINGULAR = 1e-6


def interpolation(deltas: list[Array]) -> tuple[Array, Array]:
    """t along the last axis (kept), and its sensitivity to an error in the mean cosine."""
    with np.errstate(all="ignore"):
        norms = [np.sqrt(np.sum(d * d, axis=-1, keepdims=True)) for d in deltas]
        cosines = [
            np.clip(
                np.sum(deltas[i] * deltas[j], axis=-1, keepdims=True)
                / np.maximum(norms[i] * norms[j], NORM_PRODUCT_FLOOR),
                -1,
                1,
            )
            for i, j in combinations(range(len(deltas)), 2)
        ]
        c = np.mean(cosines, axis=0)
        n = len(deltas)
        denominator = 1 + (n - 1) * c
        singular = np.abs(denominator) < SINGULAR
        safe = np.where(singular, 1, denominator)
        return np.where(singular, 0, n * c / safe), np.where(singular, 0, n / safe**2)


def merge(
    base: dict[str, Array], models: list[dict[str, Array]], *, filter_wise: bool = False
) -> dict[str, Estimate]:
    """θ = t·mean(θᵢ) + (1 - t)·θ₀, per tensor, or per row of the last dimension.

    Bound, whichever way the sum is arranged: (n + 6)·u·(|t|·mean|θᵢ| + (|t| + |1 - t|)·|θ₀|), and 1e-13
    times dt/dc of |mean - θ₀| for two orders of summation.
    """
    merged = {}
    n = len(models)
    for name, b in base.items():
        precision = working(b, *(model[name] for model in models))
        u = unit_roundoff(precision)
        deltas = [task_vector(model[name], b, precision).astype(np.float64) for model in models]
        if filter_wise and b.ndim:
            t, slope = interpolation(deltas)
        else:
            t, slope = (part.reshape(()) for part in interpolation([d.reshape(-1) for d in deltas]))
        with np.errstate(all="ignore"):
            x = [model[name].astype(np.float64) for model in models]
            origin = b.astype(np.float64)
            mean = np.sum(x, axis=0) / n
            value = t * mean + (1 - t) * origin
            gross = np.abs(t) * np.mean(np.abs(x), axis=0) + (np.abs(t) + np.abs(1 - t)) * np.abs(origin)
            bound = (n + 6) * u * gross + 1e-13 * slope * np.abs(mean - origin)
            bound = bound * 1.001 + (n + 4) * smallest(precision) * (1 + np.abs(t))
        merged[name] = Estimate(value, bound)
    return merged
