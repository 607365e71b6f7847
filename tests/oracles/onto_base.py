"""The last step of a task-vector method: θ = base + λ·merged, and NaN wherever an input was NaN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .dtypes import Array, smallest, unit_roundoff
from .estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sparse import Sparse


def onto_base(base: Array, merged: Estimate, lam: float, sparse: Sequence[Sparse]) -> Estimate:
    """Adds three roundings to the bound (λ itself, the product, the sum) and what products lose to underflow.

    Underflow: each of at most n + 4 products loses up to the smallest subnormal, before a factor of at most
    1 + |λ|·(1 + |q|), q the quotient's own magnification (taken as 16, above all divisors that the tests
    draw).
    """
    precision = sparse[0].decided.dtype
    u, tiny = unit_roundoff(precision), smallest(precision)
    with np.errstate(all="ignore"):
        update = lam * merged.value
        value = base.astype(np.float64) + update
        bound = abs(lam) * merged.bound + 3 * u * np.abs(update) + u * np.abs(value)
        bound = bound * 1.001 + (len(sparse) + 4) * tiny * (1 + 16 * abs(lam))
    missing = np.any([vector.nan for vector in sparse], axis=0)
    return Estimate(np.where(missing, np.nan, value), bound)


def weighted_sum(sparse: Sequence[Sparse], weights: Sequence[float], normalize: bool) -> Estimate:
    """Σ w·δ', divided by Σ w if asked (|Σ w| < 1e-8 counts as 1).

    Bound as in `disjoint_merge`: (n + 6)·u·Σ|w·δ'| / |divisor| and n·u·Σ|w| / |divisor| on the quotient.
    """
    u = unit_roundoff(sparse[0].decided.dtype)
    n = len(sparse)
    with np.errstate(all="ignore"):
        terms = [w * v.value for v, w in zip(sparse, weights, strict=True)]
        total = float(sum(weights))
        divisor = total if normalize and abs(total) >= 1e-8 else 1.0
        value = np.sum(terms, axis=0) / divisor
        bound = (n + 6) * u * np.sum(np.abs(terms), axis=0) / abs(divisor)
        if normalize:
            bound = bound + np.abs(value) * u * (n * sum(map(abs, weights)) / abs(divisor) + 2)
    return Estimate(value, bound)
