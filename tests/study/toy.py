"""Stage functions that worker processes import: they count their runs, wait, fail or die on request."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrick.study.stage import Running


def write(running: Running) -> dict[str, Any]:
    """Join what the inputs hold, and note that the stage has run once more."""
    with (running.folder / "runs.txt").open("a") as file:
        file.write("run\n")
    found = [path.read_text() for _, path in sorted(running.files.items())]
    found += [str(need.result["text"]) for _, need in sorted(running.needs.items())]
    return {"text": "+".join([*found, str(running.params.get("text", ""))]).strip("+")}


def fail(running: Running) -> None:
    raise ValueError(f"{running.name} was made to fail")


def die(running: Running) -> None:
    del running
    os.kill(os.getpid(), signal.SIGKILL)


def slow(running: Running) -> dict[str, Any]:
    """Take a step every tenth of a second, and go on from the last one after a kill."""
    counter = running.folder / "steps.txt"
    done = len(counter.read_text()) if counter.exists() else 0
    started = done
    while done < running.params["steps"]:
        time.sleep(0.1)
        with counter.open("a") as file:
            file.write(".")
        done += 1
        running.say(f"step {done}")
    return {"text": str(done), "began_at": started}


def unwritable(running: Running) -> dict[str, Any]:
    return {"text": running.folder}


def together(running: Running) -> dict[str, Any]:
    """Say when the stage ran, to see which ran at the same time."""
    begun = time.time()
    time.sleep(running.params["seconds"])
    return {"text": "", "begun": begun, "ended": time.time(), "threads": os.environ["OMP_NUM_THREADS"]}
