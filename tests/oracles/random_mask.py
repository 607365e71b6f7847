"""The rule of the random masks: which entries DARE and DELLA keep.

* Key: XXH3-64 (seed 0) over the bytes seed (u64, little endian) || index of the model in the list without
  the base (u64, little endian) || the output tensor's name in UTF-8. Key word 0 is its low half, word 1 its
  high half.
* Counter of the flat element index i: the 64-bit number (i >> 6) * 16 + (i & 15), its low half in counter
  word 0, its high half in word 1; words 2 and 3 are 0. The output word used is (i >> 4) & 3. So 64
  neighbours take the four words of 16 consecutive counters: each word of 16 vector lanes is one run of 16
  elements.
* Generator: Philox4x32 with 7 rounds. An entry is kept when its word u < round(p * 2^32), p its keep
  probability.

The mask therefore depends on seed, model, name and index, and on nothing else: not on dtype, values or order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xxhash

from .philox import philox4x32

if TYPE_CHECKING:
    from .dtypes import Array


def key_words(seed: int, model: int, name: str) -> tuple[int, int]:
    data = seed.to_bytes(8, "little") + model.to_bytes(8, "little") + name.encode()
    digest = xxhash.xxh3_64_intdigest(data)
    return digest & 0xFFFFFFFF, digest >> 32


def random_words(seed: int, model: int, name: str, n: int, start: int = 0) -> Array:
    """The 32 random bits of the flat elements start, …, start + n - 1, as uint32."""
    i = np.arange(start, start + n, dtype=np.uint64)
    block = (i >> np.uint64(6)) * np.uint64(16) + (i & np.uint64(15))
    counter = np.zeros((n, 4), np.uint32)
    counter[:, 0] = block & np.uint64(0xFFFFFFFF)
    counter[:, 1] = block >> np.uint64(32)
    words = philox4x32(counter, key_words(seed, model, name))
    lane = (i >> np.uint64(4)) & np.uint64(3)
    return words[np.arange(n), lane.astype(np.intp)]


def keep_mask(words: Array, probability: float | Array) -> Array:
    """Kept entries: u < round(p * 2^32), in integers, so that p = 1 keeps everything and p = 0 nothing."""
    threshold = np.rint(np.asarray(probability, np.float64) * 2.0**32).astype(np.uint64)
    return words.astype(np.uint64) < threshold
