"""The bar of a training on stderr: steps, loss and time left; only for work of over two seconds."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_PATIENCE = 2.0
_WIDTH = 24


def _patience() -> float:
    try:
        return float(os.environ["CARRICK_PROGRESS_AFTER"])
    except (KeyError, ValueError):
        return _PATIENCE


class LossProgress(TrainerCallback):
    """Steps done, the last losses and the time left; without a terminal one line at the end.

    Parameters
    ----------
    stage
        What is being done.
    """

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._start = time.monotonic()
        self._first = 0
        self._loss = ""
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self._patience = _patience()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note what an earlier run had done, which is no speed."""
        del args, control, kwargs
        self._start = time.monotonic()
        self._first = state.global_step

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Take the losses."""
        del args, state, control, kwargs
        if logs and "loss" in logs:
            train = f"loss {logs['loss']:.3f}"
            rest = self._loss.partition("  ")[2]
            self._loss = f"{train}  {rest}" if rest else train
        if logs and "eval_loss" in logs:
            train = self._loss.partition("  ")[0]
            self._loss = f"{train}  validation {logs['eval_loss']:.3f}"

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show how far it is, once it has lasted long enough."""
        del args, control, kwargs
        if not state.is_world_process_zero or not sys.stderr.isatty():
            return
        if self._bar is None and self._elapsed < self._patience:
            return
        bar, task = self._shown()
        bar.update(task, completed=state.global_step, total=state.max_steps, text=self._text(state))
        bar.refresh()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        del args, control, kwargs
        self.close()
        if self._bar is None and state.is_world_process_zero and self._elapsed > self._patience:
            sys.stderr.write(
                f"{self._stage}: {state.global_step} steps in {self._elapsed:.1f} s, {self._loss}\n"
            )

    def close(self) -> None:
        """Stop drawing."""
        if self._bar is not None:
            self._bar.stop()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _text(self, state: Any) -> str:
        done = state.global_step - self._first
        left = (state.max_steps - state.global_step) * self._elapsed / max(done, 1)
        hours, minutes, seconds = int(left) // 3600, int(left) // 60 % 60, int(left) % 60
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        return f"{state.global_step:,} of {state.max_steps:,} steps  {self._loss}  {clock} left"

    def _shown(self) -> tuple[Bar, TaskID]:
        if self._bar is None or self._task is None:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
            from rich.progress import Progress as Bar  # noqa: PLC0415

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=_WIDTH),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[text]}", markup=False),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._task = self._bar.add_task(self._stage, total=None, text="")
            self._bar.start()
        return self._bar, self._task
