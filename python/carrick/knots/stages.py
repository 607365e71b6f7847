"""The plans of a merge in a basis: updates, their coordinates merged, and the output."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from carrick.checkpoints import locate
from carrick.knots.modules import BASIS, OUTSIDE_LAYERS, by_rows, is_joint, plain_method, refuse_closed
from carrick.plan.description import Block, Description, Factor, Place, Product
from carrick.plan.job import CAST, Input, Job, Plan, Shard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from carrick.checkpoints import FileRecord, StoredTensor

_DIFFERENCE = "linear"
# What to do where memory is short.
_WITHOUT_BASIS = f"leave it without a basis (`{OUTSIDE_LAYERS}: plain`)"
MERGED = "merged.safetensors"


@dataclass(slots=True)
class Bases:
    """What the first stage found: ranks, and where bases and coordinates lie."""

    modules: list[dict[str, Any]]
    record: FileRecord
    tensors: Mapping[str, StoredTensor]


def joint_jobs(plan: Plan) -> list[Job]:
    """Jobs that are merged in a basis."""
    return [job for job in plan.jobs if is_joint(job)]


def updates(plan: Plan) -> tuple[Plan, dict[str, Any]]:
    """Plan the updates in F32, and the request for the bases that they share."""
    jobs: list[Job] = []
    modules: list[dict[str, Any]] = []
    joint = joint_jobs(plan)
    layered = any(locate(job.name) for job in joint)
    for number, job in enumerate(joint):
        own = []
        for index, source in enumerate(job.inputs[1:]):
            own.append(len(jobs))
            jobs.append(_update(f"{number}.{index} {job.name}", job, source))
        modules.append({"name": job.name, "jobs": own})
        if job.options.get(OUTSIDE_LAYERS) == BASIS and layered and locate(job.name) is None:
            modules[-1]["instead"] = _WITHOUT_BASIS
    options = joint[0].options
    request = {
        "tolerance": {str(options["rank_cut"]): options["rank_tolerance"]},
        "by_rows": by_rows(joint[0]),
        "rank": plan.meta.get("rank"),
        "modules": modules,
    }
    return laid_out(plan.files, jobs, "updates", plan.seed), request


def _update(name: str, job: Job, source: Input) -> Job:
    taken = Input(source.source, index=0, parameters={"weight": 1.0})
    base = Input(job.inputs[0].source, index=1, parameters={"weight": -1.0})
    inputs = [taken] if source.delta else [taken, base]
    return Job(name, job.shape, "F32", _DIFFERENCE, {"normalize": False}, inputs)


def coordinates(plan: Plan, bases: Bases) -> Plan:
    """Plan the merge of the coordinates Σ·Vᵢᵀ (by rows: UᵢΣ): task vectors like any others."""
    jobs = []
    for number, job in enumerate(joint_jobs(plan)):
        rank = bases.modules[number]["rank"]
        if rank == 0:
            continue
        shape = (job.shape[0], rank) if by_rows(job) else (rank, job.shape[1])
        method, options = plain_method(job)
        inputs = [
            Input(
                _place(bases.tensors[f"{number}.{index}"]), index=source.index, parameters=source.parameters
            )
            for index, source in enumerate(job.inputs[1:])
        ]
        jobs.append(Job(job.name, shape, "F32", method, options, inputs))
    return laid_out([bases.record], jobs, MERGED, plan.seed)


def output(plan: Plan, bases: Bases, merged: tuple[FileRecord, Mapping[str, StoredTensor]] | None) -> Plan:
    """Plan the output: base + U·X where there is a basis, everything else as it was planned."""
    first = len(plan.files)
    record, tensors = merged if merged is not None else (bases.record, {})

    def joined(number: int, job: Job) -> Job:
        rank = bases.modules[number]["rank"]
        description = as_description(job)
        if rank:
            basis = Factor(_place(bases.tensors[f"{number}.basis"], first))
            x = Factor(_place(tensors[job.name], first + 1))
            sides = (x, basis) if by_rows(job) else (basis, x)
            description.products.append(Product(*sides, rank))
        return Job(job.name, job.shape, job.dtype, CAST, {}, [Input(description)], job.shard, job.offset)

    return _replaced(plan, [*plan.files, bases.record, record], joined)


def as_description(job: Job) -> Description:
    """Return the base of a job as a sum that can be added to.

    Raises
    ------
    PlanError
        Nothing can be added to it.
    """
    refuse_closed(job)
    source = job.inputs[0].source
    if isinstance(source, Description):
        return copy.deepcopy(source)
    rows, columns = job.shape
    real: Literal["F32", "F64"] = "F64" if source.dtype == "F64" else "F32"
    return Description(rows, columns, [Block(source, rows, columns)], dtype=real)


def laid_out(files: list[FileRecord], jobs: list[Job], name: str, seed: int) -> Plan:
    """Lay the results of jobs out one behind the other in one file."""
    offset = 0
    for job in jobs:
        job.offset = offset
        offset += job.nbytes
    return Plan(files, [Shard(name, offset)], jobs, seed)


def _replaced(plan: Plan, files: list[FileRecord], replace: Callable[[int, Job], Job]) -> Plan:
    jobs, number = [], 0
    for job in plan.jobs:
        if is_joint(job):
            jobs.append(replace(number, job))
            number += 1
        else:
            jobs.append(job)
    return Plan(files, plan.shards, jobs, plan.seed, plan.meta)


def _place(tensor: StoredTensor, file: int = 0) -> Place:
    return Place(file, tensor.begin, tensor.dtype)
