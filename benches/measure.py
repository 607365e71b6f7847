"""Run a command and see how long it takes and how much memory it holds.

Anonymous memory is what a process allocates; pages of files that it has mapped are in the resident set as
well but can be dropped at any time. Both come from /proc, a few milliseconds apart, so a peak shorter than
that can be missed; the kernel's own high-water mark of the resident set misses nothing.

The maximum that wait4 reports is another one: it counts pages that the child shared with its parent before exec.
"""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

INTERVAL = 0.005


@dataclass
class Usage:
    """What one run of a command took; bytes and seconds."""

    seconds: float
    peak_anonymous: int
    peak_resident: int
    cpu_seconds: float
    output: str = field(repr=False)

    def record(self) -> dict[str, float | int]:
        """Return the numbers, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if key != "output"}


class CommandFailedError(RuntimeError):
    """A command ended with another code than 0."""


def _status_bytes(pid: int) -> dict[str, int]:
    """Return the memory lines of /proc/PID/status in bytes; empty when the process is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    lines = (line.split() for line in text.splitlines() if line.startswith(("RssAnon", "VmHWM")))
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def run(
    command: list[str],
    *,
    environment: dict[str, str] | None = None,
    log: Path | None = None,
    stderr_shown: bool = False,
) -> Usage:
    """Run `command` to its end.

    Parameters
    ----------
    environment
        Variables added to this process's own.
    log
        File that takes stderr; without one it is part of the output.
    stderr_shown
        Leave stderr where this process writes its own.

    Raises
    ------
    CommandFailedError
        The command ended with another code than 0; the message holds the end of what it said.
    """
    captured = log.open("wb") if log else None if stderr_shown else subprocess.STDOUT
    # What pip installs is compiled once; a checkout shall not be compiled anew by every run.
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=captured, env=inherited | (environment or {})
    )
    peak_anonymous = peak_resident = 0
    chunks: list[bytes] = []
    assert process.stdout is not None
    os.set_blocking(process.stdout.fileno(), False)
    while True:
        memory = _status_bytes(process.pid)
        peak_anonymous = max(peak_anonymous, memory.get("RssAnon", 0))
        peak_resident = max(peak_resident, memory.get("VmHWM", 0))
        chunks.append(process.stdout.read() or b"")
        finished, status, used = os.wait4(process.pid, os.WNOHANG)
        if finished:
            break
        time.sleep(INTERVAL)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    chunks.append(process.stdout.read() or b"")
    process.stdout.close()
    if log:
        captured.close()  # type: ignore[union-attr]
    output = b"".join(chunks).decode(errors="replace")
    if process.returncode:
        told = output if log is None else output + log.read_text(errors="replace")
        message = f"{' '.join(command)} ended with {process.returncode}:\n{told[-2000:]}"
        raise CommandFailedError(message)
    return Usage(seconds, peak_anonymous, peak_resident, used.ru_utime + used.ru_stime, output)
