"""Running planned stages on several workers, the longest chain first."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.errors import CarrickError
from carrick.study.crew import StageError, Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carrick.study.planning import Planned
    from carrick.study.store import Store


@dataclass(frozen=True, slots=True)
class Moment:
    """How far a study is.

    Attributes
    ----------
    done, total
        Stages that are finished (those found finished included), and all stages.
    running
        Names of the stages that run now, each with its last line of progress.
    seconds_left
        Estimate of the wall time that is left; None before anything is known.
    finished, failed
        The stage that has just ended well or badly.
    """

    done: int
    total: int
    running: dict[str, str]
    seconds_left: float | None = None
    finished: str | None = None
    failed: str | None = None


@dataclass(slots=True)
class Outcome:
    """How the stages of a run ended: names that were run, skipped as done, failed with the reason, and not begun."""

    ran: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    waiting: list[str] = field(default_factory=list)


class Schedule:
    """One run over planned stages.

    Parameters
    ----------
    planned
        Stages in order, from `carrick.study.planning.plan`.
    store
        Where they lie.
    jobs
        Worker processes.
    tell
        Called with a `Moment` at each change.
    devices
        GPUs that are shared out among the workers in turn.
    """

    def __init__(
        self,
        planned: Sequence[Planned],
        store: Store,
        jobs: int,
        tell: Callable[[Moment], None],
        devices: Sequence[int] = (),
    ) -> None:
        self._store, self._jobs, self._tell, self._devices = store, jobs, tell, list(devices)
        self._planned = list(planned)
        self._done = {each.stage.name for each in planned if each.state == "done"}
        self._todo = [each for each in planned if each.state != "done"]
        self._running: dict[str, str] = {}
        self._begun: dict[str, float] = {}
        self._pace: list[tuple[float, float]] = []  # expected and true seconds of what has run
        self._stop = False
        self._untold: Exception | None = None
        self._change = threading.Condition()
        self.outcome = Outcome(skipped=[each.stage.name for each in planned if each.state == "done"])

    def run(self) -> Outcome:
        """Run every stage that is not done; what needs a failed one is not begun."""
        workers = [Worker(self._device(place)) for place in range(min(self._jobs, len(self._todo)))]
        threads = [threading.Thread(target=self._serve, args=(worker,), daemon=True) for worker in workers]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                while thread.is_alive():  # a join without a limit would keep Ctrl-C waiting
                    thread.join(0.5)
        finally:
            with self._change:
                self._stop = True
                self._change.notify_all()
            for worker in workers:
                worker.stop()
        self.outcome.waiting = [each.stage.name for each in self._todo]
        if self._untold is not None:
            raise self._untold
        return self.outcome

    def _device(self, place: int) -> int | None:
        return self._devices[place % len(self._devices)] if self._devices else None

    def _serve(self, worker: Worker) -> None:
        while (chosen := self._next()) is not None:
            name = chosen.stage.name
            try:
                self._run(worker, chosen)
            except (
                Exception
            ) as error:  # whatever it is: a thread that died here would keep the others waiting
                expected = isinstance(error, CarrickError | OSError)
                with self._change:
                    if self._stop:
                        return
                    self.outcome.failed[name] = str(error) if expected else f"{type(error).__name__}: {error}"
                if not expected:
                    worker.stop()  # its pipes may hold half an answer; the next stage has a new process
                self._ended(chosen, failed=name)
            else:
                with self._change:
                    self._done.add(name)
                    self.outcome.ran.append(name)
                self._ended(chosen, finished=name)

    def _run(self, worker: Worker, chosen: Planned) -> None:
        stage = chosen.stage
        folder = self._store.begin(stage, chosen.key)
        needs = {name: self._store.finished(name) for name in stage.needs}
        answer = worker.run(chosen, folder, needs, lambda text: self._say(stage.name, text))
        self._store.finish(
            stage,
            chosen.key,
            needs=chosen.needs,
            files=chosen.files,
            result=answer["done"],
            seconds=answer["seconds"],
            cpu_seconds=answer["cpu_seconds"],
        )
        with self._change:
            self._pace.append((stage.work.seconds, answer["seconds"]))

    def _next(self) -> Planned | None:
        """Wait for a stage that can run; None when none ever will."""
        with self._change:
            while not self._stop:
                ready = [each for each in self._todo if self._done.issuperset(each.stage.needs)]
                if ready:
                    chosen = max(ready, key=lambda each: each.priority)
                    self._todo.remove(chosen)
                    self._running[chosen.stage.name] = ""
                    self._begun[chosen.stage.name] = time.monotonic()
                    self._show(self._moment())
                    return chosen
                if not self._running:
                    return None
                self._change.wait()
        return None

    def _ended(self, chosen: Planned, *, finished: str | None = None, failed: str | None = None) -> None:
        with self._change:
            del self._running[chosen.stage.name]
            self._change.notify_all()
            self._show(self._moment(finished, failed))

    def _say(self, name: str, text: str) -> None:
        with self._change:
            self._running[name] = text
            self._show(self._moment())

    def _show(self, moment: Moment) -> None:
        """Tell a moment; a display that fails is told no more, and `run` raises its error after the stages."""
        if self._untold is None:
            try:
                self._tell(moment)
            except Exception as error:
                self._untold = error

    def _moment(self, finished: str | None = None, failed: str | None = None) -> Moment:
        return Moment(
            len(self._done), len(self._planned), dict(self._running), self._left(), finished, failed
        )

    def _left(self) -> float | None:
        expected, true = (sum(column) for column in zip(*self._pace, strict=True)) if self._pace else (0, 0)
        if not expected:
            return None
        now = time.monotonic()
        named = {each.stage.name: each for each in self._planned}
        current = [
            max(0.0, named[name].stage.work.seconds * true / expected - (now - self._begun[name]))
            for name in self._running
        ]
        ahead = [each.stage.work.seconds * true / expected for each in self._todo]
        return max((sum(current) + sum(ahead)) / self._jobs, max(current, default=0.0))


__all__ = ["Moment", "Outcome", "Schedule", "StageError"]
