"""The order of rows: seeded by epoch, batches of like length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler
from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

_MOST_BATCHES = 50


class EpochSampler(Sampler[int]):
    """Rows in an order that depends on the seed and the epoch alone, so that a resumed run repeats it.

    Parameters
    ----------
    rows
        How many there are.
    seed
        Of the training.
    """

    def __init__(self, rows: int, seed: int) -> None:
        self._rows = rows
        self._seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(np.random.default_rng([self._seed, self._epoch])))

    def order(self, generator: np.random.Generator) -> list[int]:
        """Return the order of one epoch."""
        return generator.permutation(self._rows).tolist()  # type: ignore[no-any-return]

    def start(self, epoch: int) -> None:
        """Say which epoch comes next, from 0."""
        self._epoch = epoch


class LengthGrouped(EpochSampler):
    """Batches of rows of like length, in random order: little padding, and no drift from long to short.

    Parameters
    ----------
    lengths
        Tokens of each row.
    batch
        Rows of a batch.
    seed
        Of the training.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int) -> None:
        super().__init__(len(lengths), seed)
        self._lengths = np.asarray(lengths)
        self._batch = batch

    def order(self, generator: np.random.Generator) -> list[int]:
        """Sort pools of random rows by length, cut them into batches, and shuffle the batches."""
        rows = generator.permutation(len(self._lengths))
        full = len(rows) // self._batch * self._batch
        # The rest makes a short batch, which has to come last: batches are cut from this order.
        rest = rows[full:]
        pool = self._batch * min(_MOST_BATCHES, max(1, full // (self._batch * 4)))
        batches = []
        for start in range(0, full, pool):
            part = rows[start : min(start + pool, full)]
            part = part[np.argsort(self._lengths[part], kind="stable")]
            batches += np.split(part, len(part) // self._batch)
        shuffled = [batches[place] for place in generator.permutation(len(batches))]
        return np.concatenate([*shuffled, rest]).tolist()  # type: ignore[no-any-return]


class ByLength(EpochSampler):
    """All rows from the longest to the shortest, for evaluation."""

    def __init__(self, lengths: Sequence[int]) -> None:
        super().__init__(len(lengths), 0)
        self._order: list[int] = np.argsort(-np.asarray(lengths), kind="stable").tolist()

    def order(self, generator: np.random.Generator) -> list[int]:
        """Return always the same order."""
        del generator
        return self._order


class EpochOfSampler(TrainerCallback):
    """Tell the sampler which epoch begins, also where a resumed run begins in the midst of one."""

    def __init__(self, sampler: EpochSampler) -> None:
        self._sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the epoch from the trainer's state."""
        del args, control, kwargs
        self._sampler.start(int((state.epoch or 0.0) + 1e-6))
