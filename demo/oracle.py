"""TIES in float64 with exact decisions, to check what the demo's merge wrote.

Decisions are float32, as documented: differences are rounded once, the int(d·n) largest magnitudes stay, the lowest
index first among equals, votes are sums in model order. Values are float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    Array = np.ndarray[Any, Any]


def kept(delta: Array, density: float) -> Array:
    """Mark the max(1, int(d·n)) largest magnitudes; the lowest flat index wins among equals."""
    count = max(1, int(density * delta.size))
    bits = np.abs(delta).reshape(-1).view(np.uint32)
    threshold = np.partition(bits, delta.size - count)[delta.size - count]
    mask = bits > threshold
    mask[np.flatnonzero(bits == threshold)[: count - int(mask.sum())]] = True
    return mask.reshape(delta.shape)


def ties(base: Array, models: list[Array], weight: float, density: float) -> Array:
    """Return the merged tensor in float64."""
    origin = base.astype(np.float32)
    deltas = [model.astype(np.float32) - origin for model in models]
    deltas = [np.where(kept(delta, density), delta, np.float32(0)) for delta in deltas]
    vote = np.zeros_like(origin)
    for delta in deltas:
        vote = vote + np.float32(weight) * delta
    sign = np.where(vote >= 0, 1, -1)
    agree = [np.sign(delta) == sign for delta in deltas]
    total = sum(weight * delta.astype(np.float64) * mask for delta, mask in zip(deltas, agree, strict=True))
    weights = weight * np.sum(agree, axis=0)
    return origin.astype(np.float64) + total / np.where(weights == 0, 1, weights)


def units_away(got: Array, want: Array, base: Array) -> float:
    """Return the largest distance in units of bf16, less what float32 arithmetic may add before the rounding.

    That is a few roundings of the base and of the update, which may nearly cancel.
    """
    unit = np.exp2(np.floor(np.log2(np.maximum(np.abs(want), 2.0**-126))) - 7)
    terms = np.abs(base.astype(np.float64)) + np.abs(want)
    distance = np.abs(got.astype(np.float64) - want) - 8 * 2.0**-24 * terms
    return float((np.maximum(distance, 0) / unit).max())
