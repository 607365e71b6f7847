"""The generator against its published known-answer vectors, and the mask rule against vectors of its own."""

from __future__ import annotations

import numpy as np
import pytest

from oracles.philox import philox4x32
from oracles.random_mask import keep_mask, key_words, random_words

# Random123, kat_vectors: philox 4x32, 7 rounds. Counter, key, answer.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "5f6fb709 0d893f64 4f121f81 4f730a48"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "5207ddc2 45165e59 4d8ee751 8c52f662"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "4dfccaba 190a87f0 c47362ba b6b5242a"),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_known_answers(counter: str, key: str, answer: str) -> None:
    k0, k1 = words(key)
    assert philox4x32(np.array(words(counter), np.uint32), (k0, k1)).tolist() == words(answer)


def test_mask_rule_spelled_out() -> None:
    """Element i reads word (i >> 4) & 3 of counter (i >> 6)·16 + (i & 15)."""
    key = key_words(42, 1, "model.norm.weight")
    got = random_words(42, 1, "model.norm.weight", 200)
    for i in range(200):
        counter = np.array([(i >> 6) * 16 + (i & 15), 0, 0, 0], np.uint32)
        assert got[i] == philox4x32(counter, key)[(i >> 4) & 3]


def test_counter_crosses_32_bits() -> None:
    start = (1 << 34) - 32  # the block number passes 2³² at element 2³⁴
    got = random_words(7, 0, "w", 64, start)
    key = key_words(7, 0, "w")
    assert got[0] == philox4x32(np.array([0xFFFFFFF0, 0, 0, 0], np.uint32), key)[2]
    assert got[32] == philox4x32(np.array([0, 1, 0, 0], np.uint32), key)[0]


def test_ends_of_probability() -> None:
    extreme = np.array([0, 0xFFFFFFFF], np.uint32)
    assert keep_mask(extreme, 1.0).all()
    assert not keep_mask(extreme, 0.0).any()
    assert keep_mask(extreme, 0.5).tolist() == [True, False]


def test_streams_differ() -> None:
    streams = [random_words(s, m, n, 64) for s in (0, 1) for m in (0, 1) for n in ("a", "b")]
    assert len({stream.tobytes() for stream in streams}) == len(streams)
