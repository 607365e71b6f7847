"""Which tensors of a model KnOTS merges in a basis of their own, and what becomes of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.checkpoints import locate
from carrick.errors import PlanError
from carrick.memory import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrick.checkpoints import Checkpoint
    from carrick.plan.job import Job

KNOTS = "knots_"
_OF_DECOMPOSITION = ("direction", "rank_tolerance", "rank_cut")
# What the methods in a basis are without it.
_PLAIN = {"linear": "task_arithmetic"}


def is_joint(job: Job) -> bool:
    """Whether a job is merged in a basis."""
    return job.method.startswith(KNOTS)


def plain_method(job: Job) -> tuple[str, dict[str, Any]]:
    """Name and options of the method that merges the coordinates.

    Examples
    --------
    >>> from carrick.plan import Job
    >>> plain_method(Job("w", (2, 2), "F32", "knots_ties", {"direction": "rows", "lambda": 1.0}, []))
    ('ties', {'lambda': 1.0})
    """
    name = job.method.removeprefix(KNOTS)
    options = {key: value for key, value in job.options.items() if key not in _OF_DECOMPOSITION}
    return _PLAIN.get(name, name), options


def by_rows(job: Job) -> bool:
    """Whether updates lie one above the other."""
    return job.options.get("direction") == "rows"


def sides(job: Job) -> tuple[int, int, int]:
    """Length of the side that updates share, of the other one, and the number of updates."""
    shared, other = job.shape[::-1] if by_rows(job) else job.shape
    return shared, other, len(job.inputs) - 1


def largest_rank(job: Job) -> int:
    """Directions that the updates of a job can have at the most.

    Examples
    --------
    >>> from carrick.plan import Input, Job
    >>> from carrick.plan.description import Place
    >>> inputs = [Input(Place(0, 0, "F32")) for _ in range(3)]
    >>> largest_rank(Job("w", (96, 32), "F32", "knots_ties", {"direction": "columns"}, inputs))
    64
    """
    shared, other, count = sides(job)
    return min(shared, other * count)


def scratch_bytes(jobs: Iterable[Job]) -> int:
    """Room on the disk that bases and coordinates take until the output is written, at the most."""
    total = 0
    for job in jobs:
        if is_joint(job):
            shared, other, count = sides(job)
            # The basis, the coordinates of each model, and those that are merged.
            total += 4 * largest_rank(job) * (shared + other * (count + 1))
    return total


def divide(jobs: Iterable[Job], donor: Checkpoint) -> list[str]:
    """Give embeddings, head and all that is no matrix the plain method; return notes.

    Matrices are merged in a basis when they lie in a layer, or anywhere in a model without layers.

    Raises
    ------
    PlanError
        There is no base that updates could be taken from, or nothing is left for KnOTS.
    """
    joint = [job for job in jobs if is_joint(job)]
    if not joint:
        return []
    if not all(job.inputs[0].base for job in joint):
        raise PlanError(
            f"`{joint[0].method}` merges what models learned on top of a base; name it with `base_model`"
        )
    layers = {stack.prefix for stack in donor.stacks}
    others: list[Job] = []
    for job in joint:
        place = locate(job.name)
        inside = not layers or (place is not None and place.prefix in layers)
        if len(job.shape) != 2 or not inside:
            others.append(job)
    if len(others) == len(joint):
        raise PlanError(
            f"`{joint[0].method}` merges matrices of layers, and {donor.ref} has none; use "
            f"`{plain_method(joint[0])[0]}`"
        )
    for job in others:
        job.method, job.options = plain_method(job)
    notes = [
        f"KnOTS keeps bases and coordinates of {len(joint) - len(others)} matrices beside the output until it is "
        f"written: up to {format_size(scratch_bytes(joint))}."
    ]
    if not others:
        return notes
    shown = ", ".join(job.name for job in others[:3]) + (", …" if len(others) > 3 else "")
    notes.append(
        f"{len(others)} tensors that are no matrices of layers are merged by `{others[0].method}`, without a basis "
        f"of their own: {shown}"
    )
    return notes
