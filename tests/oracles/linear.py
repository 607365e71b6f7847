"""Weighted mean or sum of models, and `passthrough`, its case of one model with a factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .dtypes import Array, smallest, unit_roundoff, working
from .estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence


def merge(
    models: list[dict[str, Array]], *, weight: Sequence[float], normalize: bool = True
) -> dict[str, Estimate]:
    """θ = Σ wᵢ·θᵢ, divided by Σ wᵢ if normalised.

    Bound: n roundings of weights, n products, n - 1 sums, the divisor's n, the division: (2n +
    4)·u·Σ|w·θ|/|Σ w|, with Σ|w|/|Σ w| on the divisor's share; and an underflowing product each.
    """
    merged = {}
    n = len(models)
    total = float(sum(weight)) if normalize else 1.0
    spread = sum(map(abs, weight)) / abs(total) if normalize else 1.0
    for name in models[0]:
        precision = working(*(model[name] for model in models))
        u = unit_roundoff(precision)
        with np.errstate(all="ignore"):
            terms = [w * model[name].astype(np.float64) for model, w in zip(models, weight, strict=True)]
            value = np.sum(terms, axis=0) / total
            gross = np.sum(np.abs(terms), axis=0) / abs(total)
            bound = (n + 4) * u * gross + n * u * spread * np.abs(value)
        bound = bound * 1.001 + (n + 2) * smallest(precision) * (1 + 1 / abs(total))
        merged[name] = Estimate(value, bound)
    return merged


def passthrough(model: dict[str, Array], *, scale: float = 1.0) -> dict[str, Estimate]:
    """θ = s·θ₁."""
    return merge([model], weight=[scale], normalize=False)
