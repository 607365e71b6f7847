"""What is kept while a training runs: its time, and snapshots of the weights."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from carrick.train.checkpoints import PREFIX, write_clock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn


class Clock(TrainerCallback):
    """Counts seconds over all runs of a training, and marks checkpoints as finished.

    Parameters
    ----------
    seconds
        What earlier runs took up to the checkpoint that this one begins with.
    """

    def __init__(self, seconds: float) -> None:
        self._before = seconds
        self._start = time.perf_counter()

    def begin(self) -> None:
        """Start counting."""
        self._start = time.perf_counter()

    def seconds(self) -> float:
        """Return the wall time up to now."""
        return self._before + time.perf_counter() - self._start

    @staticmethod
    def rows_seen(state: Any, batch: int, rows: int) -> int:
        """Rows that went through: whole batches, of which the last of each epoch may be short."""
        epochs = float(state.epoch or 0.0)
        whole = int(epochs + 1e-6)
        per_epoch = -(-rows // batch)
        rest = state.global_step - whole * per_epoch
        return int(whole * rows + min(max(rest, 0) * batch, rows))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the time into the checkpoint, which finishes it."""
        del control, kwargs
        if state.is_world_process_zero:
            write_clock(Path(args.output_dir) / f"{PREFIX}{state.global_step}", self.seconds())


class Snapshots(TrainerCallback):
    """Writes the model at given steps, as the result would be written.

    Parameters
    ----------
    steps
        After which updates.
    folder
        Holds `step-N` for each.
    save
        Writes the model to a folder.
    """

    def __init__(self, steps: Sequence[int], folder: Path, save: Callable[[nn.Module, Path], None]) -> None:
        self._steps = frozenset(steps)
        self._folder = folder
        self._save = save

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the model if this step is one of them."""
        del args, control
        if state.global_step in self._steps and state.is_world_process_zero:
            self._save(kwargs["model"], self._folder / f"step-{state.global_step}")
