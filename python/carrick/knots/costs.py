"""What a merge in a basis costs, before anything is read: memory, traffic and time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.checkpoints.headers import FileRecord, StoredTensor
from carrick.knots.modules import largest_rank, scratch_bytes, sides
from carrick.knots.stages import Bases, coordinates, joint_jobs, output, updates

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.plan.job import Job, Plan

# A Gram matrix and its decomposition in float64, in operations a second of one core.
_RATE = 4e10


def peak_bytes(plan: Plan, options: Mapping[str, Any]) -> int:
    """Memory of the stage that takes most.

    Raises
    ------
    CarrickError
        Names the module that does not fit.
    """
    first, request = updates(plan)
    text = json.dumps(dict(options))
    found: int = json.loads(_core.joint_memory(first.to_json(), json.dumps(request), text))["peak_bytes"]
    bases, merged = _nominal(plan)
    stages = [coordinates(plan, bases), output(plan, bases, (bases.record, merged))]
    peaks: list[int] = [json.loads(_core.estimate(stage.to_json(), text))["peak_bytes"] for stage in stages]
    return max(found, *peaks)


def traffic(job: Job) -> tuple[int, int]:
    """Bytes that a job reads and writes over all stages, passes over its coordinates among them."""
    scratch = scratch_bytes([job])
    # Updates are made twice, and the base is read once more for the output; a trim looks at coordinates twice.
    return 2 * job.bytes_read_once + job.bytes_read_once + 2 * scratch, job.nbytes + scratch


def seconds(job: Job) -> float:
    """Time that a job's decomposition takes on one core."""
    shared, other, count = sides(job)
    small, large = sorted((shared, other * count))
    return (small * small * large + 12 * small**3 + 2 * shared * small * other * count) / _RATE


def _nominal(plan: Plan) -> tuple[Bases, dict[str, StoredTensor]]:
    """Bases of full rank, in a file that is not there."""
    modules: list[dict[str, Any]] = []
    tensors: dict[str, StoredTensor] = {}
    merged: dict[str, StoredTensor] = {}
    for number, job in enumerate(joint_jobs(plan)):
        rank = largest_rank(job)
        modules.append({"rank": rank})
        names = [f"{number}.basis", *(f"{number}.{index}" for index in range(len(job.inputs) - 1))]
        tensors |= {name: StoredTensor(0, 0, 0, "F32", ()) for name in names}
        merged[job.name] = StoredTensor(0, 0, 0, "F32", ())
    return Bases(modules, FileRecord("", 0, 0, 0, "", 0), tensors), merged
