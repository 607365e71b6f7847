"""The order of rows: every row once an epoch, batches of like length, the same for a seed and an epoch."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from carrick.train.sampling import ByLength, EpochSampler, LengthGrouped

LENGTHS = np.random.default_rng(0).integers(3, 60, 1839).tolist()


def epoch(sampler, number):
    sampler.start(number)
    return list(sampler)


@pytest.mark.parametrize(("rows", "batch"), [(1839, 32), (7, 8), (8, 8), (1, 4), (33, 8)])
def test_every_row_once(rows, batch):
    sampler = LengthGrouped(LENGTHS[:rows], batch, seed=0)
    assert len(sampler) == rows
    for number in range(3):
        assert sorted(epoch(sampler, number)) == list(range(rows))


def test_epochs_differ_and_repeat_by_seed():
    one, two = LengthGrouped(LENGTHS, 32, seed=0), LengthGrouped(LENGTHS, 32, seed=0)
    assert epoch(one, 0) != epoch(one, 1)
    assert epoch(two, 1) == epoch(one, 1)
    assert epoch(LengthGrouped(LENGTHS, 32, seed=1), 0) != epoch(one, 0)
    assert list(EpochSampler(9, seed=3)) == list(EpochSampler(9, seed=3))


def test_batches_hold_rows_of_like_length():
    def padding(order):
        batches = [order[start : start + 32] for start in range(0, len(order), 32)]
        return sum(max(LENGTHS[row] for row in batch) * len(batch) for batch in batches) / sum(LENGTHS)

    assert padding(epoch(LengthGrouped(LENGTHS, 32, seed=0), 0)) < 1.12
    assert padding(list(EpochSampler(len(LENGTHS), seed=0))) > 1.7


def test_long_batches_do_not_come_first():
    order = epoch(LengthGrouped(LENGTHS, 32, seed=0), 0)
    means = [
        np.mean([LENGTHS[row] for row in order[start : start + 32]]) for start in range(0, len(order), 32)
    ]
    assert abs(np.corrcoef(means, range(len(means)))[0, 1]) < 0.3


def test_evaluation_runs_from_the_longest():
    order = list(ByLength([3, 9, 5, 9]))
    assert order == [1, 3, 2, 0]
