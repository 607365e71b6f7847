"""The trim's oracle on cases small enough to be read."""

from __future__ import annotations

import numpy as np
import pytest

from oracles.trim import kept_count, trim_mask, trim_masks


def kept(values: list[float], density: float, *rule: str) -> list[int]:
    return np.flatnonzero(trim_mask(np.array(values, np.float32), density, *rule)).tolist()


def test_lowest_index_among_equals() -> None:
    assert kept([1, -2, 2, 1, 1], 0.6) == [0, 1, 2]
    assert kept([1, -1, 1, -1], 0.5) == [0, 1]


def test_all_equals() -> None:
    assert kept([1, -2, 2, 1, 1], 0.6, "floor", "all") == [0, 1, 2, 3, 4]
    assert kept([3, 1, 2], 0.2, "floor", "all") == []


def test_nan_above_infinity() -> None:
    assert kept([np.inf, -np.nan, 5, np.nan], 0.5) == [1, 3]
    assert kept([np.inf, -np.nan, 5, np.nan], 0.75) == [0, 1, 3]


def test_subnormals_and_signed_zeros_are_ranked() -> None:
    assert kept([0.0, -1e-45, -0.0, 1e-40], 0.5) == [1, 3]
    assert kept([-0.0, 0.0], 0.5) == [0]


COUNTS = [
    (10, 0.5, (5, 5, 6)),
    (1, 0.3, (1, 0, 1)),
    (10, 0.0, (0, 0, 0)),
    (10, 1.0, (10, 10, 10)),
    (0, 0.5, (0, 0, 0)),
]


@pytest.mark.parametrize(("n", "density", "counts"), COUNTS)
def test_counts(n: int, density: float, counts: tuple[int, int, int]) -> None:
    rules = ("at_least_one", "floor", "floor_plus_one")
    assert tuple(kept_count(n, density, rule) for rule in rules) == counts


def test_whole_model_ranks_names_in_byte_order() -> None:
    one = np.ones(4, np.float32)
    masks = trim_masks({"b": one, "a": one, "B": one}, 0.5, "model", "floor", "lowest_index")
    assert masks["B"].all()
    assert masks["a"].tolist() == [True, True, False, False]
    assert not masks["b"].any()
