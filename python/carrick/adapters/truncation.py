"""The best low-rank factors of what a plan's jobs make, found by the core into a file that a later plan reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from carrick import _core
from carrick.checkpoints.headers import read_file
from carrick.plan.description import Place
from carrick.plan.job import Plan, Shard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.merging.engine import Engine
    from carrick.checkpoints import FileRecord, StoredTensor
    from carrick.plan.job import Job

_NAME = "truncation.factors"


@dataclass(frozen=True, slots=True)
class Cut:
    """What is kept of one job's result: a rank, or the share `energy` of its Σσ².

    `transposed` asks for factors of the transpose, where a base stores its weights as (in, out).
    """

    rank: int | None = None
    energy: float | None = None
    transposed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the request."""
        keep = {"rank": self.rank} if self.energy is None else {"energy": self.energy}
        return {"keep": keep, "transposed": self.transposed}


class Truncation:
    """What the core found: for each job its rank, and where B (rows × rank) and A (rank × columns) lie.

    Attributes
    ----------
    modules
        For each job `name`, `rank`, `sigma` (the singular values that are kept, which lie on B), `error` (the
        measured ‖M − B·A‖/‖M‖), `norm` (‖M‖) and `route` (`randomized` or `exact`).
    record
        The file of the factors, of which `place` takes the number.
    bytes_read, bytes_written
        What the core moved.
    """

    def __init__(
        self, report: dict[str, Any], record: FileRecord, tensors: dict[str, StoredTensor], file: int
    ) -> None:
        self.modules: list[dict[str, Any]] = report["modules"]
        self.record = record
        self.bytes_read: int = report["bytes_read"]
        self.bytes_written: int = report["bytes_written"]
        self._tensors = tensors
        self._file = file

    def rank(self, job: int) -> int:
        """Rank of a job's factors, 0 where its result is zero."""
        return int(self.modules[job]["rank"])

    def place(self, job: int, which: Literal["a", "b"]) -> Place:
        """Where a factor lies, row by row in F32."""
        tensor = self._tensors[f"{job}.{which}"]
        return Place(self._file, tensor.begin, tensor.dtype)


def truncate(
    files: list[FileRecord],
    jobs: Sequence[Job],
    cuts: Sequence[Cut],
    engine: Engine,
    *,
    exact: bool = False,
    seed: int = 0,
) -> Truncation:
    """Run jobs and keep the best low-rank factors of each result.

    No more matrices are in memory than the core has threads, and one.

    Parameters
    ----------
    files
        Inputs of the jobs. The file of factors becomes the next one: append `Truncation.record` to use it.
    jobs
        Elementwise jobs of F32 results with two dimensions or more (the first one by all others).
    cuts
        One for each job.
    engine
        How the core works; the factors lie in its folder.
    exact
        Take the whole spectrum from a Gram matrix in float64, rather than the leading directions alone, whose
        error stays within about a hundredth of the best.
    seed
        Key of random masks, and of the random directions that a search begins with.

    Raises
    ------
    PlanError
        The matrices do not fit the memory.
    CarrickError
        A result holds NaN or infinities.
    """
    plan, request = _asked(files, jobs, cuts, exact=exact, seed=seed)
    path = engine.folder / _NAME
    path.unlink(missing_ok=True)
    text = _core.truncate(plan.to_json(), request, str(path), json.dumps(engine.options), engine.progress)
    record, tensors = read_file(path, 0)
    return Truncation(json.loads(text), record, tensors, len(files))


def truncation_memory(
    files: list[FileRecord], jobs: Sequence[Job], cuts: Sequence[Cut], engine: Engine
) -> int:
    """Bytes of memory that `truncate` takes at the most; the parameters and exceptions are its own."""
    plan, request = _asked(files, jobs, cuts)
    return _core.truncate_memory(plan.to_json(), request, json.dumps(engine.options))


def _asked(
    files: list[FileRecord], jobs: Sequence[Job], cuts: Sequence[Cut], *, exact: bool = False, seed: int = 0
) -> tuple[Plan, str]:
    """Return the plan of the jobs, and the request for their factors, as the core takes them."""
    offset = 0
    for job in jobs:
        job.offset = offset
        offset += job.nbytes
    request = {"route": "exact" if exact else "randomized", "jobs": [cut.as_dict() for cut in cuts]}
    return Plan(files, [Shard("factors.safetensors", offset)], list(jobs), seed), json.dumps(request)
