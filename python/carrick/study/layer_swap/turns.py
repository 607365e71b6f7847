"""Training losses of simultaneous training, each side's apart: whether the training itself falls or rises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carrick.study.layer_swap.rows import Row
    from carrick.study.stage import Finished

SIDES = ("math", "german")


def losses_of_sides(rows: Iterable[Row], finished: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """Return how each side's loss begins and ends in every row of simultaneous training, averaged over the seeds.

    A row whose trainings were too long to keep the loss of every step is left out.
    """
    found = []
    for row in rows:
        if row.family.startswith("simultaneous"):
            kept = [losses for name in row.names if (losses := _losses(finished[name])) is not None]
            if len(kept) < len(row.names):
                continue
            each = [ends_of_sides(losses, row.steps_per_switch or 1) for losses in kept]
            means = {side: np.mean([ends[side] for ends in each], axis=0).tolist() for side in SIDES}
            found.append({"row": row.key, **means})
    return found


def ends_of_sides(losses: Sequence[float], steps_per_switch: int) -> dict[str, tuple[float, float]]:
    """Return the mean loss of the first and of the last fifth of each side's own steps.

    Parameters
    ----------
    losses
        Of every step of the run; the math side has the first turn.
    steps_per_switch
        k.

    Examples
    --------
    >>> ends_of_sides([1, 5, 1, 5, 2, 6, 2, 6, 3, 7], 1)
    {'math': (1.0, 3.0), 'german': (5.0, 7.0)}
    """
    values = np.asarray(losses, dtype=np.float64)
    turn = np.arange(len(values)) // steps_per_switch % len(SIDES)
    found = {}
    for number, side in enumerate(SIDES):
        own = values[turn == number]
        count = max(1, len(own) // 5)
        found[side] = (float(own[:count].mean()), float(own[-count:].mean()))
    return found


def _losses(stage: Finished) -> list[float] | None:
    """Return the loss of every step; None where an entry is the mean of several, which may be of both sides."""
    record = json.loads((stage.folder / "model" / "training.json").read_text())
    steps = [step for step, _ in record["losses"]]
    return [loss for _, loss in record["losses"]] if steps == list(range(1, len(steps) + 1)) else None
