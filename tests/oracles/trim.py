"""The exact trim of TIES: the k largest magnitudes, counted in one tensor or over the whole model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .dtypes import Array

INTEGER = {np.dtype(np.float32): np.uint32, np.dtype(np.float64): np.uint64}


def magnitude_rank_key(delta: Array) -> Array:
    """Unsigned integers ordered as |δ|: the bits without the sign; every NaN equal, above infinity."""
    kind: Any = INTEGER[delta.dtype]
    bits = np.ascontiguousarray(delta).view(kind)
    mask = kind(np.iinfo(kind).max >> 1)
    infinity = np.array(np.inf, delta.dtype).view(kind)
    magnitude = bits & mask
    return np.where(magnitude > infinity, infinity + kind(1), magnitude)


def kept_count(n: int, density: float, rule: str = "at_least_one") -> int:
    """How many of n entries survive: int(d·n) in float64, and the rule's correction for 0 < d < 1."""
    if density <= 0 or n == 0:
        return 0
    if density >= 1:
        return n
    k = int(density * n)
    return min(n, {"at_least_one": max(1, k), "floor": k, "floor_plus_one": k + 1}[rule])


def descending(delta: Array) -> Array:
    """Flat indices from the largest magnitude to the smallest; among equals the lower index is the larger."""
    key = magnitude_rank_key(delta.reshape(-1))
    return np.argsort(np.iinfo(key.dtype).max - key, kind="stable")


def trim_mask(
    delta: Array, density: float, rule: str = "at_least_one", at_threshold: str = "lowest_index"
) -> Array:
    """True for the entries that survive, in the shape of `delta` (working precision)."""
    key = magnitude_rank_key(delta.reshape(-1))
    k = kept_count(key.size, density, rule)
    if k == 0:
        return np.zeros(delta.shape, bool)
    last = np.partition(key, key.size - k)[key.size - k]
    if at_threshold == "all":
        return (key >= last).reshape(delta.shape)
    mask = key > last
    equals = np.flatnonzero(key == last)
    mask[equals[: k - np.count_nonzero(mask)]] = True
    return mask.reshape(delta.shape)


def trim_masks(
    deltas: dict[str, Array], density: float, scope: str, rule: str, at_threshold: str
) -> dict[str, Array]:
    """Masks of one model's tensors; scope `model` ranks all of them together, names in byte order."""
    if scope == "tensor":
        return {name: trim_mask(delta, density, rule, at_threshold) for name, delta in deltas.items()}
    names = sorted(deltas, key=lambda name: name.encode())
    whole = np.concatenate([deltas[name].reshape(-1) for name in names])
    mask = trim_mask(whole, density, rule, at_threshold)
    parts = np.split(mask, np.cumsum([deltas[name].size for name in names])[:-1])
    return {name: part.reshape(deltas[name].shape) for name, part in zip(names, parts, strict=True)}
