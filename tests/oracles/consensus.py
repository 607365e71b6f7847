"""Sign election and disjoint merge: steps two and three of TIES, shared by all `_ties` methods."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .dtypes import Array, unit_roundoff
from .estimate import Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .sparse import Sparse


def votes(sparse: Sequence[Sparse], weights: Sequence[float], vote: str) -> Array:
    """Sums in model order, in the working precision, one rounding per product and per sum."""
    kind = sparse[0].decided.dtype.type
    total = np.zeros(sparse[0].decided.shape, kind)
    with np.errstate(all="ignore"):
        for vector, weight in zip(sparse, weights, strict=True):
            total = total + ballots(vector.decided, weight, vote)
    return total


def ballots(decided: Array, weight: float, vote: str) -> Array:
    """What one model throws in: the weighted deltas, the deltas, or their signs."""
    if vote == "weighted":
        return decided.dtype.type(weight) * decided
    return np.sign(decided) if vote == "frequency" else decided


def majority(elected: Sequence[Array]) -> int:
    """Sign of the sum of all elected signs of a model: -1, 0 or 1."""
    return int(np.sign(sum(int(np.nansum(np.sign(part))) for part in elected)))


def elect(total: Array, zero_vote: str, model_majority: int, aggregate: str) -> Array:
    """The elected sign of each parameter: -1, 0 (nothing is merged) or 1; NaN where the vote is NaN."""
    sign = np.sign(total).astype(np.float64)
    if zero_vote == "plus":
        tie = 1.0
    elif zero_vote == "none":
        tie = 0.0
    else:
        tie = float(model_majority) or (0.0 if aggregate == "max" else -1.0)
    return np.where(sign == 0, tie, sign)


def agreeing(sparse: Sequence[Sparse], weights: Sequence[float], vote: str, elected: Array) -> list[Array]:
    """Entries of each model that carry the elected sign; zeros never do."""
    masks = []
    for vector, weight in zip(sparse, weights, strict=True):
        with np.errstate(all="ignore"):
            sign = np.sign(ballots(vector.decided, weight, vote)).astype(np.float64)
        masks.append((sign != 0) & (sign == elected))
    return masks


def disjoint_merge(
    sparse: Sequence[Sparse],
    weights: Sequence[float],
    agree: Sequence[Array],
    elected: Array,
    *,
    aggregate: str,
    normalize: bool,
) -> Estimate:
    """Combine the agreeing entries.

    Error bound, u the unit roundoff, n models: a term w·s·δ has the roundings of w, of the factor s and of
    two products; the sum n - 1 more; the divisor n (weights and sums), relative to Σ|w|; then the division,
    or a reciprocal and a product. So (n + 6)·u·Σ|w·s·δ| on the numerator and n·u·Σ|w| on the divisor.
    """
    u = unit_roundoff(sparse[0].decided.dtype)
    n = len(sparse)
    shape = elected.shape
    with np.errstate(all="ignore"):
        terms = [np.where(m, w * v.value, 0.0) for v, w, m in zip(sparse, weights, agree, strict=True)]
        numerator = np.sum(terms, axis=0) if n else np.zeros(shape)
        gross = np.sum(np.abs(terms), axis=0)
        divisor, divisor_gross = np.ones(shape), np.zeros(shape)
        if aggregate == "max":
            gross = np.max(np.abs(terms), axis=0)
            at = np.argmax(np.abs(terms), axis=0)  # the first of equal ones
            numerator = np.take_along_axis(np.asarray(terms), at[None], axis=0)[0]
            # Which of two signs wins is open where they are equal but for rounding: weights may be negative.
            opposite = np.minimum(np.max(terms, axis=0), -np.min(terms, axis=0))
            gross = np.where(opposite > (1 - 8 * u) * gross, np.inf, gross)
        elif aggregate == "mean":
            divisor = np.maximum(1, np.sum(agree, axis=0)).astype(np.float64)
        elif aggregate == "weighted_mean" and normalize:
            divisor, divisor_gross = weight_sum(weights, agree, sparse[0].decided.dtype)
        value = np.where(np.isnan(elected), np.nan, numerator / divisor)  # inf - inf elects nothing
        bound = (n + 6) * u * gross / np.abs(divisor) + np.abs(value) * u * (
            n * divisor_gross / np.abs(divisor) + 2
        )
    return Estimate(value, bound)


def weight_sum(
    weights: Sequence[float], agree: Sequence[Array], precision: np.dtype[np.floating]
) -> tuple[Array, Array]:
    """Σ w and Σ |w| of the agreeing; a sum of exactly 0, taken in the working precision, counts as 1."""
    kind = precision.type
    total, gross = np.zeros(agree[0].shape, precision), np.zeros(agree[0].shape)
    exact = np.zeros(agree[0].shape)
    for weight, mask in zip(weights, agree, strict=True):
        total = total + np.where(mask, kind(weight), kind(0))
        exact += np.where(mask, weight, 0.0)
        gross += np.where(mask, abs(weight), 0.0)
    return np.where(total == 0, 1.0, exact), gross
