"""Progress of a study on stderr: a line for each stage that ends, and on a terminal a bar with what runs now."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Self

from carrick.cli.output import WIDTH, shorten

if TYPE_CHECKING:
    from types import TracebackType

    from rich.progress import Progress, TaskID

    from carrick.study.schedule import Moment


class StageProgress:
    """Stages done of all, what runs now, the time that is left.

    Parameters
    ----------
    name
        The study.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._start = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def watch(self, moment: Moment) -> None:
        """Take what `carrick.study.run_study` tells."""
        ended = moment.finished or moment.failed
        if ended is not None:
            state = "failed" if moment.failed else "done"
            self._print(
                f"{self._name}: {moment.done}/{moment.total} {state}: {ended}  "
                f"({self._clock(time.monotonic() - self._start)}{self._left(moment)})"
            )
        if sys.stderr.isatty():
            self._draw(moment)

    def _print(self, line: str) -> None:
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False)
        else:
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    def _draw(self, moment: Moment) -> None:
        if self._bar is None or self._task is None:
            from rich.console import Console  # noqa: PLC0415
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                TextColumn("{task.fields[text]}", markup=False, style="dim"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=moment.total, text="")
            self._bar.start()
        current = ", ".join(f"{name} {text}".strip() for name, text in moment.running.items())
        self._bar.update(
            self._task, completed=moment.done, text=shorten(current + self._left(moment), WIDTH - 58)
        )

    def _left(self, moment: Moment) -> str:
        return "" if moment.seconds_left is None else f", {self._clock(moment.seconds_left)} left"

    @staticmethod
    def _clock(seconds: float) -> str:
        whole = round(seconds)
        hours, minutes = whole // 3600, whole // 60 % 60
        return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
