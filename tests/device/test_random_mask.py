"""The masks of a device are those of the core: published known answers, the rule's oracle, the core itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carrick import arrays
from carrick.torch.random_mask import keep_below, keep_mask, philox
from oracles import random_mask

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, (0, 0), [0x5F6FB709, 0x0D893F64, 0x4F121F81, 0x4F730A48]),
        ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x5207DDC2, 0x45165E59, 0x4D8EE751, 0x8C52F662]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            (0xA4093822, 0x299F31D0),
            [0x4DFCCABA, 0x190A87F0, 0xC47362BA, 0xB6B5242A],
        ),
    ],
)
def test_published_known_answers(counter: list[int], key: tuple[int, int], words: list[int]) -> None:
    got = philox(tuple(torch.tensor([word]) for word in counter), key)
    assert [int(word) for word in got] == words


@given(
    seed=st.integers(0, 2**64 - 1),
    model=st.integers(0, 40),
    name=st.text(max_size=300),
    entries=st.integers(0, 400),
    probability=st.floats(0, 1),
)
def test_masks_are_those_of_the_rule(
    seed: int, model: int, name: str, entries: int, probability: float
) -> None:
    got = keep_mask(seed, model, name, entries, probability=probability, device=CPU).numpy()
    words = random_mask.random_words(seed, model, name, entries)
    assert np.array_equal(got, words < np.uint64(keep_below(probability)))


def test_masks_are_those_of_the_core() -> None:
    name, entries = "base_model.model.layers.0.q_proj.lora_A.weight", 5_000_000
    core = arrays.dare_linear([np.ones(entries, np.float32)], density=0.3, seed=9, tensor=name)
    assert np.array_equal(keep_mask(9, 0, name, entries, probability=0.3, device=CPU).numpy(), core != 0)
