"""The progress bar on stderr: only for work that lasts over two seconds, only on a terminal.

``CARRICK_PROGRESS_AFTER`` sets other seconds: 0 shows the bar at once.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, Self

from carrick.cli.output import WIDTH, shorten

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from carrick.progress import Progress

_PATIENCE = 2.0
_BAR = 24


def _patience() -> float:
    try:
        return float(os.environ["CARRICK_PROGRESS_AFTER"])
    except (KeyError, ValueError):
        return _PATIENCE


class ByteProgress:
    """A bar with bytes, rate, time left and the current tensor; without a terminal a plain line at the end.

    Parameters
    ----------
    what
        What is done; the bar names the stage that an update says.
    """

    def __init__(self, what: str) -> None:
        self._what = self._stage = what
        self._start = time.monotonic()
        self._patience = _patience()
        self._first: int | None = None  # bytes that an earlier run had done already: they are no speed
        self._done = 0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif kind is None and self._elapsed > self._patience and self._done:
            sys.stderr.write(f"{self._what}: {self._moved()}\n")

    def watch(self, moment: Progress) -> None:
        """Take what :func:`carrick.merge.merge` tells."""
        stage = f"{moment.document}: {moment.stage}" if moment.document else moment.stage
        self.update(moment.bytes_done, moment.bytes_total, moment.tensor, stage)

    def update(self, done: int, total: int, tensor: str, stage: str | None = None) -> None:
        """Show how far the work is, once it has lasted long enough to be worth it."""
        if self._first is None or done < self._first:
            self._first = done
        self._done = done
        self._stage = stage or self._stage
        if self._bar is None and (self._elapsed < self._patience or not sys.stderr.isatty()):
            return
        bar, task = self._shown()
        text = f"{self._sizes(total)}  {self._rate()}  {self._left(total)}"
        room = min(bar.console.width, WIDTH) - _BAR - len(self._stage) - len(text) - 11
        bar.update(
            task,
            completed=done,
            total=max(total, 1),
            description=self._stage,
            text=text,
            tensor=shorten(tensor, room) if room >= 8 else "",
        )
        bar.refresh()

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def _shown(self) -> tuple[Bar, TaskID]:
        if self._bar is None or self._task is None:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, TextColumn  # noqa: PLC0415
            from rich.progress import Progress as Bar  # noqa: PLC0415

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=_BAR),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[text]}", markup=False),
                TextColumn("{task.fields[tensor]}", markup=False, style="dim"),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
            self._task = self._bar.add_task(self._stage, total=None, text="", tensor="")
            self._bar.start()
        return self._bar, self._task

    def _speed(self) -> float:
        return (self._done - (self._first or 0)) / max(self._elapsed, 1e-3)

    def _sizes(self, total: int) -> str:
        from carrick.memory import format_size  # noqa: PLC0415

        return f"{format_size(self._done)} of {format_size(total)}"

    def _rate(self) -> str:
        from carrick.memory import format_size  # noqa: PLC0415

        return f"{format_size(self._speed())}/s"

    def _left(self, total: int) -> str:
        speed = self._speed()
        if speed <= 0:
            return "-:-- left"
        seconds = round((total - self._done) / speed)
        hours, minutes = seconds // 3600, seconds // 60 % 60
        clock = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
        return f"{clock}:{seconds % 60:02d} left"

    def _moved(self) -> str:
        from carrick.memory import format_size  # noqa: PLC0415

        return f"{format_size(self._done)} in {self._elapsed:.1f} s, {self._rate()}"
