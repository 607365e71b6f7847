"""What a plan will cost: bytes, passes, memory, time; from the jobs alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick import _core, methods

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.plan.job import Job, Plan

# Bytes that move per second where nobody measured: a fast SSD, or the page cache behind two cores.
TYPICAL_RATE = 2.0e9


@dataclass(slots=True)
class MethodShare:
    """What one method does in a plan."""

    method: str
    tensors: int = 0
    bytes_read: int = 0
    bytes_written: int = 0
    passes: int = 1


@dataclass(slots=True)
class Estimate:
    """Cost of a plan; `seconds` at 2 GB/s."""

    bytes_read: int
    bytes_written: int
    peak_bytes: int
    seconds: float
    by_method: list[MethodShare]


def passes_of(jobs: Sequence[Job], files: int) -> list[int]:
    """How often each job of a plan with so many files reads its inputs, as the engine counts it."""
    return _core.passes(json.dumps([job.as_dict() for job in jobs]), files)


def estimate_of(plan: Plan, options: dict[str, object] | None = None) -> Estimate:
    """Estimate what a plan costs.

    Parameters
    ----------
    plan
        The plan.
    options
        Options of the run (`memory`, `threads`, …) for the engine's estimate of its memory.
    """
    from carrick.knots import costs  # noqa: PLC0415  (it imports this package)
    from carrick.knots.modules import is_joint  # noqa: PLC0415

    shares: dict[str, MethodShare] = {}
    decompositions = 0.0
    plain = iter(passes_of([job for job in plan.jobs if not is_joint(job)], len(plan.files)))
    for job in plan.jobs:
        share = shares.setdefault(job.method, MethodShare(job.method))
        passes = int(methods.load()[job.method].passes) if is_joint(job) else next(plain)
        share.tensors += 1
        read, written = job.bytes_read_once * passes, job.nbytes
        if is_joint(job):
            read, written = costs.traffic(job)
            decompositions += costs.seconds(job)
        share.bytes_read += read
        share.bytes_written += written
        share.passes = max(share.passes, passes)
    read = sum(s.bytes_read for s in shares.values())
    written = sum(s.bytes_written for s in shares.values())
    seconds = (read + written) / TYPICAL_RATE + decompositions
    return Estimate(read, written, _peak(plan, options or {}), seconds, list(shares.values()))


def _peak(plan: Plan, options: dict[str, object]) -> int:
    from carrick.knots import costs  # noqa: PLC0415  (it imports this package)
    from carrick.knots.stages import joint_jobs  # noqa: PLC0415

    if joint_jobs(plan):
        return costs.peak_bytes(plan, options)
    peak: int = json.loads(_core.estimate(plan.to_json(), json.dumps(options)))["peak_bytes"]
    return peak
