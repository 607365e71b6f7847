"""A worker process: ``python -m carrick.study.worker`` reads stages as JSON lines and answers in JSON lines.

It is a plain program rather than a `multiprocessing` child, so that studies start from notebooks and scripts
without a main guard. It ends at once when its standard input closes: a study that was killed leaves no workers.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from carrick.study.keys import write_json
from carrick.study.stage import Finished, Running
from carrick.study.store import LOG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def main() -> None:
    """Run stages until standard input closes."""
    # What a stage prints goes to its log; the answers keep the real standard output.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    while True:
        request = json.loads(requests.get())
        _answer(answers, _run(request, lambda text: _answer(answers, {"say": text})))


def _listen(requests: queue.Queue[str]) -> None:
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)  # the study is over, or was killed: nothing that runs here is wanted any more


def _run(request: Mapping[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
    folder = Path(request["folder"])
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    start, cpu = time.monotonic(), time.process_time()
    try:
        running = Running(
            name=request["name"],
            params=request["params"],
            needs={
                name: Finished(
                    name, Path(need["folder"]), need["result"], need["seconds"], need["cpu_seconds"]
                )
                for name, need in request["needs"].items()
            },
            files={name: Path(path) for name, path in request["files"].items()},
            folder=folder,
            say=say,
        )
        result = dict(find(request["function"])(running) or {})
        # What JSON cannot hold is this stage's failure, not the study's.
        write_json(folder / "result.json", result)
        (folder / "result.json").unlink()
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        return {"failed": f"{type(error).__name__}: {error}", "notes": list(getattr(error, "__notes__", []))}
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return {
        "done": result,
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - cpu,
    }


def find(function: str) -> Callable[[Running], Mapping[str, Any] | None]:
    """Import what ``package.module:function`` names.

    Examples
    --------
    >>> find("carrick.study.worker:find").__name__
    'find'
    """
    module, _, name = function.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _answer(answers: TextIO, content: Mapping[str, Any]) -> None:
    answers.write(json.dumps(content) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
