"""NuSLERP (mergekit): SLERP at t = w₁/(w₀ + w₁), of models or of task vectors, whole or vector by vector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .dtypes import Array, smallest, unit_roundoff, working
from .estimate import Estimate
from .sparse import task_vector

if TYPE_CHECKING:
    from collections.abc import Sequence

NORM_FLOOR = 1e-7
COLINEAR = 1e-16


def position(weight: Sequence[float]) -> float:
    """t = w₁/(w₀ + w₁); one half where the weights cancel."""
    total = weight[0] + weight[1]
    return 0.5 if abs(total) < 1e-6 else weight[1] / total


def along(v0: Array, v1: Array, t: float, axis: int) -> tuple[Array, Array, Array]:
    """Terms c₀·v₀, c₁·v₁ along `axis`, and by how much one unit of error in cos φ moves the coefficients."""
    with np.errstate(all="ignore"):
        units = [
            v / np.maximum(np.sqrt(np.sum(v * v, axis=axis, keepdims=True)), NORM_FLOOR) for v in (v0, v1)
        ]
        cosine = np.clip(np.sum(units[0] * units[1], axis=axis, keepdims=True), -1, 1)
        line = 1 - cosine * cosine <= COLINEAR
        phi = np.arccos(np.where(line, 0, cosine))
        c0 = np.where(line, 1 - t, np.sin((1 - t) * phi) / np.sin(phi))
        c1 = np.where(line, t, np.sin(t * phi) / np.sin(phi))
        slope = np.where(line, 0, 1 / np.sin(phi) ** 2)
        return c0 * v0, c1 * v1, np.broadcast_to(slope, v0.shape)


def merge(
    base: dict[str, Array] | None,
    v0: dict[str, Array],
    v1: dict[str, Array],
    *,
    weight: Sequence[float],
    flatten: bool = True,
    row_wise: bool = False,
) -> dict[str, Estimate]:
    """θ = [θ_b +] c₀·v₀ + c₁·v₁.

    Without `flatten` vectors run along the last dimension, or along the first with `row_wise`. Bound:
    coefficients, two products, two sums, 4·u·(|c₀v₀| + |c₁v₁|) and u·|θ|; and 1e-13/sin²φ for two orders of
    summation.
    """
    t = position(weight)
    merged = {}
    for name, x0 in v0.items():
        inputs = [x0, v1[name]] + ([base[name]] if base else [])
        precision = working(*inputs)
        vectors = [task_vector(x, base[name], precision) if base else x for x in inputs[:2]]
        a, b = (v.astype(np.float64) for v in vectors)
        if flatten or a.ndim == 0:
            term0, term1, slope = (
                part.reshape(a.shape) for part in along(a.reshape(-1), b.reshape(-1), t, 0)
            )
        else:
            term0, term1, slope = along(a, b, t, 0 if row_wise else -1)
        with np.errstate(all="ignore"):
            value = term0 + term1
            bound = (4 * unit_roundoff(precision) + 1e-13 * slope) * (np.abs(term0) + np.abs(term1))
            if base:
                value = value + base[name].astype(np.float64)
            bound = (bound + unit_roundoff(precision) * np.abs(value)) * 1.001 + 3 * smallest(precision)
        merged[name] = Estimate(value, bound)
    return merged
