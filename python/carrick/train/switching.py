"""Two partitions trained in turn on two data sources by one AdamW: simultaneous partition SFT (XLT §4.5).

Every k steps the sides change: one side's parameters are frozen, the other's thawed, and batches come from the
other source. The optimizer is made while both train. AdamW passes over parameters without a gradient, weight decay
included, so that a frozen side's weights, moments and step counts stay as they are, bit for bit.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from transformers import TrainerCallback

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from carrick.train.partition import Side

ORDER: tuple[Side, Side] = ("task", "language")
"""The task's source comes first."""


def side_of_step(step: int, steps_per_switch: int) -> Side:
    """Tell whose turn it is at an optimizer step, counted from 0.

    >>> [side_of_step(step, 2)[0] for step in range(8)]
    ['t', 't', 'l', 'l', 't', 't', 'l', 'l']
    """
    return ORDER[step // steps_per_switch % 2]


def steps_of_epochs(rows: Sequence[int], rows_per_step: int, epochs: float, steps_per_switch: int) -> int:
    """Count the optimizer steps in which the larger source is seen ``epochs`` times; both sides get half of them.

    Parameters
    ----------
    rows
        Rows of each of the two sources.
    rows_per_step
        The effective batch.
    epochs
        Passes over the larger source; the smaller one begins again meanwhile.
    steps_per_switch
        k. Each side's steps are rounded up to whole turns.

    Examples
    --------
    >>> steps_of_epochs([640, 320], 64, 1.0, 1), steps_of_epochs([640, 320], 64, 1.0, 8)
    (20, 32)
    """
    one_side = max(1, -(-int(max(rows) * epochs) // rows_per_step))
    turns = -(-one_side // steps_per_switch)
    return 2 * turns * steps_per_switch


def check_steps(steps: int, steps_per_switch: int) -> None:
    """Refuse a number of steps in which the sides would not train equally long.

    Raises
    ------
    ConfigError
        It is not a multiple of 2·k.
    """
    if steps_per_switch < 1:
        raise ConfigError(f"`steps_per_switch` is {steps_per_switch}; it is 1 or more")
    if steps < 1 or steps % (2 * steps_per_switch):
        whole = max(1, -(-steps // (2 * steps_per_switch))) * 2 * steps_per_switch
        raise ConfigError(
            f"`steps` is {steps}, and each side trains {steps_per_switch} steps at a time: both get equally many "
            f"only in a multiple of {2 * steps_per_switch}; write `steps: {whole}`"
        )


class AlternatingSampler(Sampler[int]):
    """Places of rows for a whole run: every step's rows from the source whose turn it is.

    Each source is shuffled by itself and begins again, shuffled anew, when it is used up; rows at the end of a pass
    are not dropped. The order depends on the seed alone: a resumed run skips what was seen.

    Parameters
    ----------
    places
        Of each source's rows in the data set.
    rows_per_step
        The effective batch: batch size × accumulation.
    steps
        Optimizer steps of the run.
    steps_per_switch
        k.
    seed
        Of the shuffles.

    Raises
    ------
    ConfigError
        A source is empty.

    Examples
    --------
    >>> places = {"task": [0, 1, 2], "language": [3, 4]}
    >>> sampler = AlternatingSampler(places, rows_per_step=2, steps=4, steps_per_switch=1, seed=0)
    >>> ["task" if place < 3 else "language" for place in sampler][::2], len(sampler)
    (['task', 'language', 'task', 'language'], 8)
    """

    def __init__(
        self,
        places: Mapping[Side, Sequence[int]],
        *,
        rows_per_step: int,
        steps: int,
        steps_per_switch: int,
        seed: int,
    ) -> None:
        self._places = {side: list(places[side]) for side in ORDER}
        self._rows_per_step = rows_per_step
        self._steps = steps
        self._steps_per_switch = steps_per_switch
        self._seed = seed
        for side, rows in self._places.items():
            if not rows:
                raise ConfigError(
                    f"`sources.{side}` has no rows; simultaneous training takes batches from both sources"
                )

    def __len__(self) -> int:
        return self._steps * self._rows_per_step

    def __iter__(self) -> Iterator[int]:
        streams = {
            side: _endless(self._places[side], torch.Generator().manual_seed(2 * self._seed + number))
            for number, side in enumerate(ORDER)
        }
        for step in range(self._steps):
            yield from islice(streams[side_of_step(step, self._steps_per_switch)], self._rows_per_step)


def _endless(places: Sequence[int], generator: torch.Generator) -> Iterator[int]:
    while True:
        for index in torch.randperm(len(places), generator=generator).tolist():
            yield places[index]


class SwitchPartitions(TrainerCallback):
    """Freezes and thaws the sides at the beginning of each step.

    Parameters
    ----------
    parameters
        The parameters of each side that train at all.
    steps_per_switch
        k.
    """

    def __init__(
        self, parameters: Mapping[Side, Sequence[torch.nn.Parameter]], steps_per_switch: int
    ) -> None:
        self.parameters = parameters
        self.steps_per_switch = steps_per_switch

    def thaw(self) -> None:
        """Let both sides train, as they must when the optimizer is made and when all is done."""
        for side in ORDER:
            for parameter in self.parameters[side]:
                parameter.requires_grad_(True)

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Freeze the side whose turn it is not; a stale gradient would still be stepped with."""
        turn = side_of_step(state.global_step, self.steps_per_switch)
        for side in ORDER:
            for parameter in self.parameters[side]:
                parameter.requires_grad_(side == turn)
                if side != turn:
                    parameter.grad = None

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Let both sides train again."""
        self.thaw()
