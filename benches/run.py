"""Time merges on the same files: Carrick, mergekit, a torch script and the movement of the bytes alone.

    python benches/run.py --jobs ties,linear --runs 5

Jobs that have a result already are skipped, so that an interrupted run goes on; --again repeats them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benches import adapters_jobs, arrays, contenders, machine, report, scale  # noqa: E402
from benches.contenders import Inputs  # noqa: E402
from benches.jobs import JOBS, QUICK, Job  # noqa: E402
from benches.llama import write_config, write_family  # noqa: E402
from benches.measure import CommandFailedError  # noqa: E402
from benches.verify import verify  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = ROOT / "benches" / "results"
GIB = 1 << 30
# A tool that needs longer than this for one merge is run once.
ONCE_ABOVE_SECONDS = 60
QUICK_ONCE_ABOVE_SECONDS = 4
QUICK_SCALE = 1 / 16
MERGE_TOOLS = ("ceiling", "carrick", "torch", "mergekit")
TOOLS = ",".join([*MERGE_TOOLS, "dense", "peft", "cuda"])


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = [*JOBS, *adapters_jobs.JOBS, *scale.JOBS, *arrays.JOBS]
    parser.add_argument("--jobs", default=",".join(every), help="names, separated by commas; default: all")
    parser.add_argument("--runs", type=int, default=5, help="runs of each tool, taken in turns")
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the models' size")
    parser.add_argument("--quick", action="store_true", help="three jobs at a sixteenth of the size")
    parser.add_argument("--tools", default=TOOLS, help="which tools take part, where a job has them")
    parser.add_argument("--work", type=Path, default=ROOT / ".bench", help="where inputs and outputs lie")
    parser.add_argument("--results", type=Path, help="where the JSON goes; default: benches/results")
    parser.add_argument("--again", action="store_true", help="repeat jobs that have a result")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.jobs, chosen.scale, chosen.runs = ",".join(QUICK), QUICK_SCALE, min(chosen.runs, 3)
        chosen.again = True
    if chosen.results is None:
        chosen.results = RESULTS if chosen.scale == 1 else chosen.work / "results"
    unknown = set(chosen.jobs.split(",")) - set(every)
    if unknown:
        parser.error(f"no job {', '.join(sorted(unknown))}: choose from {', '.join(every)}")
    return chosen


def make_inputs(job: Job, size: float, folder: Path) -> Inputs:
    """Write the models of a job."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shape = job.shape(size)
    base, *models = write_family(folder, shape.tensors(), job.dtype, job.tuned)
    write_config([base, *models], shape, job.dtype)
    config = folder / "config.yml"
    job.write_config(config, base, models)
    return Inputs(job, folder, base, models, config)


class Contest:
    """The runs of one job: every tool in turns, results checked before a time is believed."""

    def __init__(self, inputs: Inputs, tools: list[str], once_above: float) -> None:
        self.inputs = inputs
        self.once_above = once_above
        self.tools = tools
        self.runs: dict[str, list[dict[str, Any]]] = {tool: [] for tool in tools}
        self.checks: dict[str, dict[str, Any]] = {}
        self.checksums: dict[str, str] = {}
        program = contenders.build_ceiling() if "ceiling" in tools else Path()
        self.merge: dict[str, Callable[[Inputs, Path], dict[str, Any]]] = {
            "carrick": contenders.carrick,
            "mergekit": contenders.mergekit,
            "torch": contenders.torch,
            "ceiling": partial(contenders.ceiling, program=program),
        }

    def turn(self, tool: str) -> None:
        """Run one tool once."""
        done = self.runs[tool]
        if done and done[0]["seconds"] > self.once_above:
            return
        out = self.inputs.folder / f"out-{tool}"
        contenders.remove(out)
        contenders.read_once(self.inputs.files)
        result = self.merge[tool](self.inputs, out)
        self.check(tool, out, result.pop("checksums", {}))
        contenders.remove(out)
        done.append(result)
        anonymous = result["peak_anonymous"] / 2**20
        print(f"    {tool:9} {result['seconds']:8.3f} s  {anonymous:8.0f} MiB", flush=True)

    def check(self, tool: str, out: Path, checksums: dict[str, str]) -> None:
        """Compare the first result with the oracle, Carrick's later ones with its first."""
        if tool == "carrick":
            self.checksums = self.checksums or checksums
            assert checksums == self.checksums, "two runs of carrick gave different bytes"
        if tool == "ceiling" or tool in self.checks:
            return
        job = self.inputs.job
        self.checks[tool] = verify(
            job.method, job.options, self.inputs.base, self.inputs.models, out, exact=tool == "carrick"
        )

    def record(self) -> dict[str, Any]:
        """Return all runs, none dropped, and their medians."""
        medians = {
            tool: {
                key: statistics.median(run[key] for run in runs)
                for key in ("seconds", "peak_anonymous", "peak_resident")
            }
            for tool, runs in self.runs.items()
            if runs
        }
        return {"runs": self.runs, "medians": medians, "checks": self.checks}


def contest(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Make a job's inputs, let the tools take turns, and delete everything."""
    folder = options.work / job.name
    start = time.perf_counter()
    inputs = make_inputs(job, options.scale, folder)
    size = sum(path.stat().st_size for path in inputs.files)
    print(f"    inputs    {time.perf_counter() - start:8.1f} s  {size / 1e9:8.2f} GB", flush=True)
    try:
        once_above = QUICK_ONCE_ABOVE_SECONDS if options.quick else ONCE_ABOVE_SECONDS
        wanted = options.tools.split(",")
        tools = Contest(inputs, [tool for tool in wanted if tool in MERGE_TOOLS], once_above)
        for _ in range(options.runs):
            for tool in tools.tools:
                tools.turn(tool)
        interpreter = contenders.interpreter_bytes() if "carrick" in tools.tools else 0
        return {
            "kind": "merge",
            "title": job.title,
            "parameters": job.shape(options.scale).parameters,
            "dtype": job.dtype,
            "bytes_in": size,
            "bytes_out": sum(path.stat().st_size for path in inputs.base.glob("*.safetensors")),
            "goals": {"mergekit": job.mergekit_goal, "ceiling": job.ceiling_goal},
            "interpreter_bytes": interpreter,
            **tools.record(),
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def disk_need(names: list[str], options: argparse.Namespace) -> int:
    """Return what the hungriest job needs; each deletes its files before the next begins."""
    needs = [JOBS[name].disk_bytes(options.scale) for name in names if name in JOBS]
    needs += [
        adapters_jobs.JOBS[name].disk_bytes(options.scale) for name in names if name in adapters_jobs.JOBS
    ]
    needs += [scale.JOBS[name].disk_bytes(options.scale) for name in names if name in scale.JOBS]
    return max(needs, default=0)


def result_of(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run one job."""
    if name in JOBS:
        return contest(JOBS[name], options)
    if name in adapters_jobs.JOBS:
        return adapters_jobs.JOBS[name].run(options)
    if name in scale.JOBS:
        return scale.JOBS[name].run(options)
    return arrays.JOBS[name](options)


def main() -> None:
    """Run the jobs that were asked for and have no result yet."""
    options = arguments()
    options.work.mkdir(parents=True, exist_ok=True)
    options.results.mkdir(parents=True, exist_ok=True)
    names = [
        n for n in options.jobs.split(",") if options.again or not (options.results / f"{n}.json").exists()
    ]
    need, free = disk_need(names, options), shutil.disk_usage(options.work).free
    print(
        f"{len(names)} jobs in {options.work}: up to {need / GIB:.1f} GiB of disk of {free / GIB:.0f} GiB free"
    )
    if need > free:
        sys.exit("not enough disk: name another folder with --work, or a smaller --scale")
    failed = []
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}", flush=True)
        try:
            result = result_of(name, options)
        except CommandFailedError as error:
            failed.append(name)
            print(f"    no result: {error}", flush=True)
            continue
        content = {"job": name, "scale": options.scale, **result, "machine": machine.facts(options.work)}
        path = options.results / f"{name}.json"
        path.with_suffix(".part").write_text(json.dumps(content, indent=1) + "\n")
        path.with_suffix(".part").replace(path)
    print(report.table(options.results))
    if failed:
        sys.exit(f"without a result, because a command failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
