"""Which tensors of a model KnOTS merges in a basis of their own, and what becomes of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carrick.checkpoints import locate
from carrick.errors import PlanError
from carrick.memory import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrick.checkpoints import Checkpoint
    from carrick.plan.job import Job

KNOTS = "knots_"
# What becomes of tensors that are no matrices of layers.
OUTSIDE_LAYERS, BASIS, BASE = "outside_layers", "basis", "base"
# Options of the basis, which the method in it does not have.
OF_BASIS = ("direction", "rank_tolerance", "rank_cut", OUTSIDE_LAYERS)
# What the methods in a basis are without it.
_PLAIN = {"linear": "task_arithmetic"}
_MATRIX = 2
_SHOWN = 3


def is_joint(job: Job) -> bool:
    """Whether a job is merged in a basis."""
    return job.method.startswith(KNOTS)


def plain_name(method: str) -> str:
    """Return what a method on updates is called by the engine, in a basis or not.

    Examples
    --------
    >>> [plain_name(method) for method in ("knots_ties", "knots_linear", "ties")]
    ['ties', 'task_arithmetic', 'ties']
    """
    name = method.removeprefix(KNOTS)
    return _PLAIN.get(name, name)


def plain_method(job: Job) -> tuple[str, dict[str, Any]]:
    """Name and options of the method that merges the coordinates.

    Examples
    --------
    >>> from carrick.plan import Job
    >>> plain_method(Job("w", (2, 2), "F32", "knots_ties", {"direction": "rows", "lambda": 1.0}, []))
    ('ties', {'lambda': 1.0})
    """
    return plain_name(job.method), {key: value for key, value in job.options.items() if key not in OF_BASIS}


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


def refuse_closed(job: Job) -> None:
    """Raise where the base's rows are replaced or normed at last, so that nothing can be added behind."""
    if not job.inputs[0].is_sum:
        raise PlanError(
            f"{job.name}: the base has an adapter with DoRA or trained tokens, to which no basis can be added; "
            "fold the adapter in first (`carrick adapters apply`)"
        )


@dataclass(slots=True)
class _Parts:
    """What has a basis (in layers, and beside them), what is merged without one, and what is the base's."""

    inside: list[Job] = field(default_factory=list)
    outside: list[Job] = field(default_factory=list)
    plain: list[Job] = field(default_factory=list)
    copied: list[Job] = field(default_factory=list)

    def add(self, job: Job, *, inside: bool) -> None:
        """Sort one job in."""
        choice = job.options.get(OUTSIDE_LAYERS)
        if len(job.shape) == _MATRIX and inside:
            self.inside.append(job)
        elif len(job.shape) == _MATRIX and choice == BASIS:
            self.outside.append(job)
        elif choice == BASE and not (inside and len(job.shape) > _MATRIX):
            self.copied.append(job)
        else:
            self.plain.append(job)


def divide(jobs: Iterable[Job], donor: Checkpoint) -> list[str]:
    """Leave to KnOTS what it merges in a basis, give the rest what `outside_layers` says; return notes.

    Matrices are merged in a basis when they lie in a layer, or anywhere in a model without layers; with `basis` the
    others are, too. What is left takes the plain method. With `base` embeddings, head, norms and biases stay those
    of the base: all but tensors of three or more dimensions in layers, the matrices of several experts.

    Raises
    ------
    PlanError
        There is no base that updates could be taken from or added to, or nothing is left for KnOTS.
    """
    joint = [job for job in jobs if is_joint(job)]
    if not joint:
        return []
    if not all(job.inputs[0].base for job in joint):
        raise PlanError(
            f"`{joint[0].method}` merges what models learned on top of a base; name it with `base_model`"
        )
    layers = {stack.prefix for stack in donor.stacks}
    parts = _Parts()
    for job in joint:
        place = locate(job.name)
        parts.add(job, inside=not layers or (place is not None and place.prefix in layers))
    what = "matrices" if joint[0].options.get(OUTSIDE_LAYERS) == BASIS else "matrices of layers"
    if not parts.inside + parts.outside:
        raise PlanError(
            f"`{joint[0].method}` merges {what}, and {donor.ref} has none; use `{plain_method(joint[0])[0]}`"
        )
    for job in parts.inside + parts.outside:
        refuse_closed(job)
    for job in parts.plain:
        job.method, job.options = plain_method(job)
    for job in parts.copied:
        job.move(job.inputs[0])
    return _notes(parts, what)


def _notes(parts: _Parts, what: str) -> list[str]:
    own = parts.inside + parts.outside
    notes = [
        f"KnOTS keeps bases and coordinates of {len(own)} matrices beside the output until it is "
        f"written: up to {format_size(scratch_bytes(own))}."
    ]
    if parts.outside:
        notes.append(
            f"{len(parts.outside)} matrices outside the layers have bases of their own, too: {_named(parts.outside)}"
        )
    if parts.plain:
        notes.append(
            f"{len(parts.plain)} tensors that are no {what} are merged by `{parts.plain[0].method}`, without a basis "
            f"of their own: {_named(parts.plain)}"
        )
    if parts.copied:
        notes.append(
            f"{len(parts.copied)} tensors that are no {what} are not merged, they stay as in the base: "
            f"{_named(parts.copied)}"
        )
    return notes


def _named(jobs: list[Job]) -> str:
    return ", ".join(job.name for job in jobs[:_SHOWN]) + (", …" if len(jobs) > _SHOWN else "")
