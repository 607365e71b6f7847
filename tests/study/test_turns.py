"""Training losses of simultaneous training: which side's each of them is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carrick.study.layer_swap import turns
from carrick.study.layer_swap.rows import Row
from carrick.study.stage import Finished

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("k", [1, 2, 5])
def test_losses_are_told_apart_by_whose_turn_it_was(k: int) -> None:
    """As the training takes turns; math losses fall from 4 by the step, German ones rise from 100."""
    switching = pytest.importorskip("carrick.train.switching")
    sides = [switching.side_of_step(step, k) for step in range(40)]
    losses = [4 - step if side == "task" else 100 + step for step, side in enumerate(sides)]
    ends = turns.ends_of_sides(losses, k)
    for name, side in (("math", "task"), ("german", "language")):
        own = [loss for loss, whose in zip(losses, sides, strict=True) if whose == side]
        assert ends[name] == (pytest.approx(sum(own[:4]) / 4), pytest.approx(sum(own[-4:]) / 4))


def trained(folder: Path, losses: list[tuple[int, float]]) -> Finished:
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "training.json").write_text(json.dumps({"losses": losses}))
    return Finished(folder.name, folder, {}, 0.0, 0.0)


def test_entries_of_several_steps_are_of_no_side(tmp_path: Path) -> None:
    """A long training keeps the mean of several steps; a row of which one seed is so is left out."""
    each = [(step, float(step % 2)) for step in range(1, 11)]  # math in the odd steps: its losses are 1
    finished = {
        "a": trained(tmp_path / "a", each),
        "b": trained(tmp_path / "b", each),
        "two": trained(tmp_path / "two", [(step, 0.5) for step in range(2, 21, 2)]),
        "end": trained(tmp_path / "end", [*each, (12, 0.5)]),
    }

    def row(*names: str) -> Row:
        losses = {"german_math": np.ones((len(names), 1, 3))}
        return Row("full", "simultaneous", "-".join(names), 1, 1.0, names, losses)

    rows = [row("a", "b"), row("a", "two"), row("two", "two"), row("end", "a")]
    assert turns.losses_of_sides(rows, finished) == [
        {"row": rows[0].key, "math": [1.0, 1.0], "german": [0.0, 0.0]}
    ]
