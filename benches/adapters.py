"""Time merges of adapters: Carrick, PEFT, mergekit, torch and the movement of the bytes alone.

A job's inputs, tools and checks come from benches/adapters_jobs.py; here the tools take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders
from benches.contenders import PROGRAMS
from benches.measure import Usage, run

if TYPE_CHECKING:
    import argparse

# A tool that needs longer than this is run once.
ONCE_ABOVE_SECONDS = 60
MOST_RUNS = 3
Record = dict[str, Any]
Timed = Callable[[Path], Record]
Check = Callable[[Path], float]
Word = str | Path | float


@dataclass(frozen=True)
class Tool:
    """One way to do a job.

    Attributes
    ----------
    name
        `carrick`, `ceiling`, `torch`, `dense`, `peft`, `mergekit` or `cuda`.
    label
        What the table calls it.
    timed
        Does the job into a folder that does not exist yet, and says what it took.
    check
        Relative error of the result, for tools that leave one.
    factor
        What the measured seconds are multiplied by, where a part stands for the whole.
    rule
        Why that factor.
    units
        Into how many equal parts Carrick's time is divided for this comparison.
    inside
        Whether `seconds` leaves out the process's start, so that Carrick's does as well.
    goal
        What the project set out for: times faster than this tool; for the ceiling, times as long.
    """

    name: str
    label: str
    timed: Timed
    check: Check | None = None
    factor: float = 1.0
    rule: str = ""
    units: int = 1
    inside: bool = False
    goal: float | None = None

    def facts(self) -> Record:
        """Return what the report needs beside the runs."""
        keys = ("label", "factor", "rule", "units", "inside", "goal")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Prepared:
    """Inputs on disk and the tools that take part; Carrick is one of them.

    Attributes
    ----------
    error_limit
        Largest relative error of Carrick's result against float64; rounding to the output's type is in it.
    ratio_limit
        Largest ratio of Carrick's error to that of the tool named with it.
    """

    tools: list[Tool]
    files: list[Path]
    bytes_out: int
    error_limit: float
    ratio_limit: tuple[str, float] | None = None
    facts: Record = field(default_factory=dict)


@dataclass(frozen=True)
class AdapterJob:
    """One row: its name, title, the disk that it needs and how its inputs are made."""

    name: str
    title: str
    needed: Callable[[float], int]
    prepare: Callable[[Path, float], Prepared]
    seconds_goal: float | None = None

    def disk_bytes(self, scale: float) -> int:
        """Return the most that inputs and outputs take."""
        return self.needed(scale)

    def run(self, options: argparse.Namespace) -> Record:
        """Make the inputs, let the tools take turns, and delete everything."""
        folder = options.work / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        start = time.perf_counter()
        try:
            prepared = self.prepare(folder, options.scale)
            size = sum(path.stat().st_size for path in prepared.files)
            print(f"    inputs    {time.perf_counter() - start:8.1f} s  {size / 1e9:8.2f} GB", flush=True)
            chosen = [tool for tool in prepared.tools if tool.name in options.tools.split(",")]
            contest = Contest(folder, chosen, prepared)
            for _ in range(min(options.runs, MOST_RUNS)):
                for tool in chosen:
                    contest.turn(tool)
            return {
                "kind": "adapters",
                "title": self.title,
                "bytes_in": size,
                "bytes_out": prepared.bytes_out,
                "seconds_goal": self.seconds_goal,
                "interpreter_bytes": contenders.interpreter_bytes(),
                **prepared.facts,
                **contest.record(),
            }
        finally:
            shutil.rmtree(folder, ignore_errors=True)


class Contest:
    """The runs of one job; a result is checked before its time is believed."""

    def __init__(self, folder: Path, tools: list[Tool], prepared: Prepared) -> None:
        self.folder = folder
        self.tools = tools
        self.prepared = prepared
        self.runs: dict[str, list[Record]] = {tool.name: [] for tool in tools}
        self.errors: dict[str, float] = {}

    def turn(self, tool: Tool) -> None:
        """Run one tool once."""
        done = self.runs[tool.name]
        if done and done[0]["seconds"] > ONCE_ABOVE_SECONDS:
            return
        out = self.folder / f"out-{tool.name}"
        contenders.remove(out)
        contenders.read_once(self.prepared.files)
        result = tool.timed(out)
        if tool.check is not None and tool.name not in self.errors:
            self._check(tool, tool.check(out))
        contenders.remove(out)
        done.append(result)
        print(
            f"    {tool.name:9} {result['seconds']:8.3f} s  {result['peak_anonymous'] / 2**20:8.0f} MiB",
            flush=True,
        )

    def _check(self, tool: Tool, error: float) -> None:
        self.errors[tool.name] = error
        print(f"    {tool.name:9} relative error {error:.2e}", flush=True)
        if tool.name in {"carrick", "cuda"}:
            limit = self.prepared.error_limit
            assert error <= limit, f"{tool.name}: relative error {error:.2e}, above {limit:.0e}"
        if self.prepared.ratio_limit is not None:
            other, most = self.prepared.ratio_limit
            if {"carrick", other} <= self.errors.keys():
                ratio = self.errors["carrick"] / self.errors[other]
                assert ratio <= most, f"carrick's error is {ratio:.3f} times that of {other}, above {most}"

    def record(self) -> Record:
        """Return all runs, none dropped, their medians and the errors."""
        medians = {
            name: {
                key: statistics.median(run[key] for run in runs)
                for key in ("seconds", "peak_anonymous", "peak_resident")
            }
            for name, runs in self.runs.items()
            if runs
        }
        return {
            "tools": {tool.name: tool.facts() for tool in self.tools},
            "runs": self.runs,
            "medians": medians,
            "errors": self.errors,
        }


def carrick(folder: Path, *words: Word) -> Timed:
    """Return Carrick's command with these words; `{out}` stands for the output folder."""

    def timed(out: Path) -> Record:
        command = [str(word).replace("{out}", str(out)) for word in words]
        usage = run([str(PROGRAMS / "carrick"), *command, "--json"], log=folder / "carrick.log")
        report = json.loads(usage.output)
        keys = ("seconds", "bytes_read", "bytes_written", "threads", "simd")
        return {**usage.record(), "engine": {key: report[key] for key in keys}}

    return timed


def script(folder: Path, name: str, *words: Word) -> Timed:
    """Return one of the scripts beside this file; its own `seconds` leave out the imports."""

    def timed(out: Path) -> Record:
        command = [str(word).replace("{out}", str(out)) for word in words]
        path = Path(__file__).parent / name
        usage = run([str(PROGRAMS / "python"), str(path), *command], environment=contenders.OFFLINE,
                    log=folder / f"{name}.log")  # fmt: skip
        told = json.loads(usage.output.splitlines()[-1])
        return {**_process(usage), **told}

    return timed


def whole_process(timed: Timed) -> Timed:
    """Return the same with the seconds of the whole process, its start and imports among them."""

    def process(out: Path) -> Record:
        result = timed(out)
        return {**result, "seconds": result["process_seconds"], "inner_seconds": result["seconds"]}

    return process


def command(folder: Path, *words: Word) -> Timed:
    """Return any other command."""

    def timed(out: Path) -> Record:
        parts = [str(word).replace("{out}", str(out)) for word in words]
        return run(parts, environment=contenders.OFFLINE, log=folder / "command.log").record()

    return timed


def ceiling(files: list[Path], bytes_out: int, goal: float) -> Tool:
    """Return the movement of the bytes alone."""
    build = cache(contenders.build_ceiling)

    def timed(out: Path) -> Record:
        program = build()
        out.mkdir()
        threads = len(os.sched_getaffinity(0))
        words = [program, "--threads", threads, "--out", out / "bytes", "--out-bytes", bytes_out, *files]
        usage = run([str(word) for word in words])
        return {**_process(usage), "seconds": float(usage.output)}

    return Tool("ceiling", "moving the bytes", timed, inside=True, goal=goal)


def _process(usage: Usage) -> Record:
    return {**usage.record(), "process_seconds": usage.seconds}
