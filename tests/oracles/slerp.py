"""SLERP (Shoemake, 1985) of two tensors as vectors, nearly parallel ones handled as in mergekit."""

from __future__ import annotations

import numpy as np

from .dtypes import Array, smallest, unit_roundoff, working
from .estimate import Estimate

PARALLEL = 0.9995
NORM_FLOOR = 1e-8


def coefficients(t: float, cosine: float) -> tuple[float, float]:
    """Factors of the raw vectors: sin((1-t)φ)/sin φ and sin(tφ)/sin φ; 1 - t and t where |cos φ| > 0.9995."""
    if abs(cosine) > PARALLEL:
        return 1 - t, t
    phi = np.arccos(cosine)
    return float(np.sin((1 - t) * phi) / np.sin(phi)), float(np.sin(t * phi) / np.sin(phi))


def cosine_of(v0: Array, v1: Array) -> float:
    """Cosine of the angle; a vector no longer than 1e-8 is not normalised, as in mergekit."""
    a, b = v0.astype(np.float64).reshape(-1), v1.astype(np.float64).reshape(-1)
    with np.errstate(all="ignore"):
        norms = [float(np.sqrt(np.sum(v * v))) for v in (a, b)]
        a, b = (v / norm if norm > NORM_FLOOR else v for v, norm in zip((a, b), norms, strict=True))
        return float(np.clip(np.sum(a * b), -1, 1))


def merge(v0: dict[str, Array], v1: dict[str, Array], *, t: float) -> dict[str, Estimate]:
    """θ = c₀·v₀ + c₁·v₁; `v0` is the base model.

    Bound: coefficients rounded to the working precision, a product each, one sum: 3·u·(|c₀v₀| + |c₁v₁|). The
    coefficients themselves are float64 on both sides; |cos φ| ≤ 0.9995 magnifies a difference of 1e-13
    between two orders of summation by less than 1/sin²φ < 1001, below u of float32; for F64 it is added as
    2e-10 of the terms.
    """
    merged = {}
    for name, x0 in v0.items():
        x1 = v1[name]
        precision = working(x0, x1)
        c0, c1 = coefficients(t, cosine_of(x0, x1))
        with np.errstate(all="ignore"):
            term0, term1 = c0 * x0.astype(np.float64), c1 * x1.astype(np.float64)
            relative = 3.01 * unit_roundoff(precision) + (2e-10 if precision == np.float64 else 0)
            bound = relative * (np.abs(term0) + np.abs(term1)) + 3 * smallest(precision)
            merged[name] = Estimate(term0 + term1, bound)
    return merged
