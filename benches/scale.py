"""Memory and sizes: flat from 0.1B to 3B, one huge tensor, a 405B plan, a 70B-shaped merge.

Only Carrick runs here. Inputs that no disk here could hold are sparse files: headers are real, the weights are
holes that read as zeros.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from benches import contenders
from benches.contenders import PROGRAMS, Inputs
from benches.jobs import WEIGHT_AND_DENSITY, Job
from benches.llama import (
    DTYPES,
    LLAMA_1B,
    LLAMA_3B,
    LLAMA_70B,
    LLAMA_100M,
    LLAMA_405B,
    Shape,
    header_bytes,
    shard_layout,
    write_config,
    write_family,
)
from benches.measure import run
from benches.verify import Checkpoint, verify

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

BF16 = DTYPES["BF16"].itemsize
# Of a 70B model's 80 layers, as many as leave room for the output on an ordinary disk.
LAYERS_OF_70B = 12
HUGE = {"huge.weight": (65536, 32768)}
Names = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class ScaleJob:
    """A job of its own kind: what disk it needs, and how it runs."""

    needed: Callable[[float], int]
    body: Callable[[argparse.Namespace, Path], dict[str, Any]]
    name: str

    def disk_bytes(self, scale: float) -> int:
        """Return the most that inputs and output take."""
        return self.needed(scale)

    def run(self, options: argparse.Namespace) -> dict[str, Any]:
        """Run the job in a folder of its own, which is deleted afterwards."""
        folder = options.work / self.name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            return {"kind": "scale", **self.body(options, folder)}
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def ties_job(tuned: int) -> Job:
    """Return TIES with `tuned` fine-tunes."""
    return Job("ties", "TIES", "ties", tuned, WEIGHT_AND_DENSITY, 0, None)


def sparse_family(folder: Path, shape: Shape, tuned: int) -> list[Path]:
    """Write checkpoints whose weights are holes: every header, no data."""
    models = [folder / "base", *(folder / f"tuned-{number + 1}" for number in range(tuned))]
    shards = shard_layout(shape.tensors(), BF16)
    for model in models:
        model.mkdir(parents=True)
        weight_map: dict[str, str] = {}
        for number, shard in enumerate(shards, 1):
            name = f"model-{number:05}-of-{len(shards):05}.safetensors"
            start, _, size = header_bytes(shard, "BF16")
            (model / name).write_bytes(start)
            os.truncate(model / name, size)
            weight_map |= dict.fromkeys(shard, name)
        index = {"metadata": {"total_size": shape.parameters * BF16}, "weight_map": weight_map}
        (model / "model.safetensors.index.json").write_text(json.dumps(index))
    write_config(models, shape, "BF16")
    return models


def configured(folder: Path, models: list[Path]) -> Inputs:
    """Write the TIES configuration for these models."""
    job = ties_job(len(models) - 1)
    config = folder / "config.yml"
    job.write_config(config, models[0], models[1:])
    return Inputs(job, folder, models[0], models[1:], config)


def timed(inputs: Inputs, runs: int, check: Callable[[Path], object]) -> dict[str, Any]:
    """Merge `runs` times; the first result is checked."""
    out = inputs.folder / "out"
    results = []
    for number in range(runs):
        contenders.remove(out)
        contenders.read_once(inputs.files)
        result = contenders.carrick(inputs, out)
        result.pop("checksums")
        if not number:
            check(out)
        results.append(result)
        print(
            f"    carrick   {result['seconds']:8.3f} s  {result['peak_anonymous'] / 2**20:8.0f} MiB",
            flush=True,
        )
    contenders.remove(out)
    return {"runs": {"carrick": results}, "interpreter_bytes": contenders.interpreter_bytes()}


def memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Merge models of three sizes by TIES."""
    sizes = []
    for name, shape in (("0.1B", LLAMA_100M), ("1B", LLAMA_1B), ("3B", LLAMA_3B)):
        wanted = shape if options.scale == 1 else shape.scaled(options.scale)
        place = folder / name
        models = write_family(place, wanted.tensors(), "BF16", 2)
        write_config(models, wanted, "BF16")
        inputs = configured(place, models)
        check = _checker(inputs)
        sizes.append({"shape": name, "parameters": wanted.parameters, **timed(inputs, options.runs, check)})
        shutil.rmtree(place)
    return {"title": "TIES, base + 2, by size of the model", "sizes": sizes}


def read_modes(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Merge by TIES with inputs read by position and mapped, in turns, and check that the bytes are the same."""
    shape = LLAMA_1B if options.scale == 1 else LLAMA_1B.scaled(options.scale)
    models = write_family(folder, shape.tensors(), "BF16", 2)
    write_config(models, shape, "BF16")
    inputs = configured(folder, models)
    out = folder / "out"
    runs: dict[str, list[dict[str, Any]]] = {"pread": [], "mmap": []}
    checksums = []
    for _ in range(options.runs):
        for mode, results in runs.items():
            contenders.remove(out)
            contenders.read_once(inputs.files)
            result = contenders.carrick(inputs, out, "--read", mode)
            checksums.append(result.pop("checksums"))
            results.append(result)
            print(
                f"    {mode:9} {result['seconds']:8.3f} s  {result['peak_resident'] / 2**20:8.0f} MiB",
                flush=True,
            )
    assert all(each == checksums[0] for each in checksums), "the way of reading changed the bytes"
    interpreter = contenders.interpreter_bytes()
    sizes = [
        {"shape": mode, "runs": {"carrick": results}, "interpreter_bytes": interpreter}
        for mode, results in runs.items()
    ]
    return {"title": "TIES, base + 2, by way of reading", "sizes": sizes}


def _checker(inputs: Inputs) -> Callable[[Path], object]:
    job = inputs.job
    return lambda out: verify(job.method, job.options, inputs.base, inputs.models, out, exact=True)


def huge_shapes(scale: float) -> Names:
    """Return one tensor of 4 GB in bf16 among small ones that are named as a Llama's."""
    shapes = {name: shape for name, shape in LLAMA_1B.scaled(1 / 64).tensors().items() if ".layers." in name}
    shapes["model.norm.weight"] = (256,)
    rows, columns = HUGE["huge.weight"]
    return {"huge.weight": (max(1, round(rows * scale)), columns), **shapes}


def huge_tensor(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Merge one tensor of 4 GB among small ones by TIES; CPU seconds over wall seconds: busy cores."""
    shapes = huge_shapes(options.scale)
    models = write_family(folder, shapes, "BF16", 2)
    write_config(models, LLAMA_1B, "BF16")
    inputs = configured(folder, models)
    result = timed(inputs, options.runs, _checker(inputs))
    busy = [r["cpu_seconds"] / r["seconds"] for r in result["runs"]["carrick"]]
    return {
        "title": "TIES, base + 2, one tensor of 4 GB among small ones",
        "largest_bytes": prod(shapes["huge.weight"]) * BF16,
        "busy_cores": sorted(busy)[len(busy) // 2],
        **result,
    }


def plan_405b(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Plan a merge of 405B models from their headers."""
    models = sparse_family(folder, LLAMA_405B, 3)
    inputs = configured(folder, models)
    # The output has no room here, which the plan says, and which is none of its time.
    command = [str(PROGRAMS / "carrick"), "plan", str(inputs.config), "--json"]
    usages = [run(command, log=folder / "plan.log") for _ in range(options.runs)]
    plan = json.loads(usages[0].output)
    jobs = len(plan["jobs"]) if "jobs" in plan else None
    for usage in usages:
        print(f"    carrick   {usage.seconds:8.3f} s  {usage.peak_anonymous / 2**20:8.0f} MiB", flush=True)
    return {
        "title": "plan of a 405B TIES merge, base + 3, from headers alone",
        "parameters": LLAMA_405B.parameters,
        "tensors": jobs,
        "runs": {"carrick": [usage.record() for usage in usages]},
        "interpreter_bytes": contenders.interpreter_bytes(),
    }


def sparse_70b(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Merge a 70B-shaped model of fewer layers; all weights are zero, so all magnitudes are equal."""
    shape = replace(LLAMA_70B, layers=LAYERS_OF_70B)
    if options.scale != 1:
        shape = shape.scaled(options.scale)
    inputs = configured(folder, sparse_family(folder, shape, 2))

    def all_zero(out: Path) -> None:
        tensors = Checkpoint(out).tensors
        assert set(tensors) == set(shape.tensors())
        assert not any(
            np.asarray(tensor.reshape(-1)[:4096]).view(np.uint16).any() for tensor in tensors.values()
        )

    result = timed(inputs, min(options.runs, 3), all_zero)
    title = f"TIES, base + 2, tensors of a 70B model, {LAYERS_OF_70B} of its 80 layers, sparse inputs"
    return {"title": title, "parameters": shape.parameters, **result}


def _models(shape: Shape, count: int) -> Callable[[float], int]:
    return lambda scale: int(count * shape.parameters * BF16 * min(1, scale * 1.2))


JOBS = {
    job.name: job
    for job in (
        ScaleJob(_models(LLAMA_3B, 4), memory, "memory"),
        ScaleJob(
            lambda scale: int(4 * prod(HUGE["huge.weight"]) * BF16 * scale) + 2**28,
            huge_tensor,
            "huge_tensor",
        ),
        ScaleJob(_models(LLAMA_1B, 5), read_modes, "read_modes"),
        ScaleJob(lambda _: 2**28, plan_405b, "plan_405b"),
        ScaleJob(_models(replace(LLAMA_70B, layers=LAYERS_OF_70B), 1), sparse_70b, "sparse_70b"),
    )
}
