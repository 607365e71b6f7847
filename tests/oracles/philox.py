"""Philox4x32 (Salmon et al., "Parallel random numbers", SC 2011) with 7 rounds, in NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .dtypes import Array

MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
WEYL = (0x9E3779B9, 0xBB67AE85)
LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)


def philox4x32(counter: Array, key: tuple[int, int], rounds: int = 7) -> Array:
    """Four output words for each counter.

    Parameters
    ----------
    counter
        uint32, shape (..., 4), word 0 first.
    key
        Two 32-bit words; bumped by the Weyl constants between rounds.
    """
    words = [counter[..., i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    for _ in range(rounds):
        product0, product1 = MULTIPLIERS[0] * words[0], MULTIPLIERS[1] * words[2]
        words = [
            (product1 >> SHIFT) ^ words[1] ^ np.uint64(k0),
            product1 & LOW,
            (product0 >> SHIFT) ^ words[3] ^ np.uint64(k1),
            product0 & LOW,
        ]
        k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
    return np.stack(words, axis=-1).astype(np.uint32)
