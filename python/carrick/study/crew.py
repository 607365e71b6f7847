"""The study's side of a worker process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from carrick.study.planning import Planned
    from carrick.study.stage import Finished

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class StageError(CarrickError):
    """A stage's function raised, or its process died."""


class Worker:
    """A process that runs one stage after the other; torch is imported once in its life.

    Parameters
    ----------
    device
        The one GPU that it sees; None leaves the environment as it is.
    """

    def __init__(self, device: int | None = None) -> None:
        self._device = device
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, planned: Planned, folder: Path, needs: Mapping[str, Finished], say: Callable[[str], None]
    ) -> dict[str, Any]:
        """Run a stage and return its answer: ``done``, ``seconds``, ``cpu_seconds``.

        Raises
        ------
        StageError
            The function raised, or the process died.
        """
        request = {
            "name": planned.stage.name,
            "function": planned.stage.function,
            "params": _plain(planned.stage.params),
            "files": {name: str(path.absolute()) for name, path in planned.stage.files.items()},
            "folder": str(folder.absolute()),
            "needs": {
                name: {
                    "folder": str(need.folder.absolute()),
                    "result": need.result,
                    "seconds": need.seconds,
                    "cpu_seconds": need.cpu_seconds,
                }
                for name, need in needs.items()
            },
        }
        process = self._started()
        if process.stdin is None or process.stdout is None:
            raise StageError("the worker process has no pipes")
        with suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            answer: dict[str, Any] = json.loads(line)
            if "say" in answer:
                say(answer["say"])
            elif "failed" in answer:
                raise StageError(answer["failed"])
            else:
                return answer
        code = process.wait()
        self.stop()
        raise StageError(f"its process {_ending(code)}")

    def stop(self) -> None:
        """End the process, in the middle of a stage if need be."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None:
            environment = {
                **os.environ,
                **dict.fromkeys(_THREADS, "1"),
                **({} if self._device is None else {"CUDA_VISIBLE_DEVICES": str(self._device)}),
                "TOKENIZERS_PARALLELISM": "false",
                "MPLBACKEND": "agg",
                # Modules that the caller can import, the worker can: stages may lie in a script's folder.
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "carrick.study.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                encoding="utf-8",
                env=environment,
                start_new_session=True,  # Ctrl-C reaches the study, which stops its workers itself
            )
        return self._process


def _ending(code: int) -> str:
    if code < 0:
        with suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}; out of memory?"
    return f"ended with code {code}"


def _plain(value: Any) -> Any:
    """Copy read-only views and tuples as JSON holds them."""
    if hasattr(value, "keys"):
        return {key: _plain(value[key]) for key in value}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
