"""Runs a case on the Rust core alone: files and plan by hand, `_core.execute`, the shards read by hand."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from carrick import _core
from oracles.dtypes import NAMES
from oracles.files import read_file, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from methods.case import Case, Model


def record(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """An entry of the plan's `files`, and where each tensor lies in that file."""
    header = json.loads(_core.read_header(str(path)))
    keys = ("size", "mtime_ns", "inode", "header_hash", "data_start")
    return {"path": str(path)} | {key: header[key] for key in keys}, {t["name"]: t for t in header["tensors"]}


def plan_of(case: Case, folder: Path, output_dtype: str | None = None) -> str:
    """Write the inputs, one file a model, and the plan that merges them; two shards for two tensors."""
    inputs = ([case.base] if case.base else []) + case.models
    records, places = [], []
    for i, tensors in enumerate(inputs):
        path = folder / f"input-{i}.safetensors"
        write_file(path, tensors, sorted(tensors, key=lambda name: -tensors[name].itemsize))
        entry, where = record(path)
        records.append(entry)
        places.append(where)
    parameters = case.complete_parameters()
    call = {"name": case.method, "options": case.complete_options()}
    donor = inputs[0]
    names = sorted(donor, key=lambda name: -donor[name].itemsize)
    shards: list[dict[str, Any]] = []
    jobs: list[dict[str, Any]] = []
    for number, part in enumerate(p for p in (names[::2], names[1::2]) if p):
        size = 0
        for name in part:
            dtype = output_dtype or NAMES[donor[name].dtype]
            job_inputs = []
            for i, where in enumerate(places):
                stored = where[name]
                entry = {"file": i, "offset": stored["begin"], "dtype": stored["dtype"]}
                if case.base and i == 0:
                    entry["base"] = True
                else:
                    index = i - bool(case.base)
                    entry |= {"index": index, "parameters": parameters[index]}
                job_inputs.append(entry)
            shape = list(donor[name].shape)
            jobs.append(
                {"name": name, "shape": shape, "dtype": dtype, "shard": number, "offset": size}
                | {"method": call, "inputs": job_inputs}
            )
            size += donor[name].size * WIDTH[dtype]
        shards.append({"name": f"shard-{number}.safetensors", "data_bytes": size})
    plan = {"format": "carrick-plan", "version": 1, "seed": case.seed, "files": records}
    return json.dumps(plan | {"shards": shards, "jobs": jobs, "meta": {}})


WIDTH = {name: dtype.itemsize for dtype, name in NAMES.items()}


def execute(plan: str, out: Path, **options: Any) -> dict[str, Any]:
    """Run a plan and put its shards in place; the engine's report."""
    partial = out.with_name(out.name + ".carrick-partial")
    report: dict[str, Any] = json.loads(_core.execute(plan, str(partial), json.dumps(options), None))
    _core.commit(str(partial), str(out), [shard["name"] for shard in json.loads(plan)["shards"]], False)
    return report


def read_output(out: Path) -> Model:
    tensors: Model = {}
    for path in sorted(out.glob("*.safetensors")):
        tensors |= read_file(path)
    return tensors


def run(case: Case, folder: Path, *, output_dtype: str | None = None, **options: Any) -> Model:
    """Merge in a fresh folder, which is emptied again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    execute(plan_of(case, folder, output_dtype), folder / "out", **options)
    tensors = read_output(folder / "out")
    shutil.rmtree(folder)
    return tensors
