"""A merge without its decompositions: bounds of the ranks in their place, and what each stage would move and hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carrick.adapters.merging.decomposition import Decomposition, Kind
from carrick.adapters.merging.stages import Held, Turned
from carrick.adapters.truncation import Cut, Truncation, truncation_memory
from carrick.checkpoints import FileRecord, StoredTensor
from carrick.checkpoints.element_types import element_size
from carrick.plan.description import Place
from carrick.plan.estimate import passes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.plan.job import Job

# A file that is not there.
_NOWHERE = FileRecord("", 0, 0, 0, "", 0)
_REAL = "F32"


class Forecast:
    """Stands for the stages of a merge (`Stages`): every rank is the largest one possible.

    Attributes
    ----------
    bytes_read
        What decompositions and truncations would read.
    scratch_bytes
        What they would leave in the partial folder, at the most.
    peak_bytes
        Memory that truncations take at the most, 0 without any.
    decomposes
        Whether factors are decomposed, whose memory the core does not tell beforehand.
    is_exact
        Whether no rank depends on what is found.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bytes_read = 0
        self.scratch_bytes = 0
        self.peak_bytes = 0
        self.decomposes = False
        self.is_exact = True

    def decompose(
        self, lineup: AdapterLineup, kind: Kind, scales: list[list[float]], request: dict[str, Any]
    ) -> Decomposition:
        """Take as many directions as a module can have."""
        del scales  # they do not change how many there are
        self.decomposes, self.is_exact = True, False
        dtype = "F64" if request["precision"] == "float64" else _REAL
        modules: list[dict[str, Any]] = []
        tensors: dict[str, StoredTensor] = {}
        for number, entry in enumerate(lineup.entries):
            rank = min(_directions(entry, kind), request.get("rank") or math.inf)
            modules.append(_found(int(rank)))
            for term, part in enumerate(entry.terms):
                self.bytes_read += part.module.a.nbytes + part.module.b.nbytes
                self.scratch_bytes += 2 * part.module.rank * int(rank) * element_size(dtype)
                tensors |= {f"{number}.{term}.{which}": _stored(dtype) for which in "pq"}
        return Decomposition({"modules": modules, "bytes_read": 0}, _NOWHERE, tensors, len(lineup.files))

    def truncate(
        self, files: list[FileRecord], jobs: list[Job], cuts: Sequence[Cut], *, seed: int
    ) -> Truncation:
        """Keep the rank that is asked for, all directions where an energy is."""
        del seed
        self.is_exact = False
        self.peak_bytes = max(self.peak_bytes, truncation_memory(files, jobs, cuts, self.engine))
        modules: list[dict[str, Any]] = []
        tensors: dict[str, StoredTensor] = {}
        passes = passes_of(jobs, len(files))
        for number, (job, cut) in enumerate(zip(jobs, cuts, strict=True)):
            rows, columns = job.shape
            rank = min(rows, columns, cut.rank or rows)
            modules.append(_found(rank))
            self.bytes_read += job.bytes_read_once * passes[number]
            self.scratch_bytes += rank * (rows + columns) * element_size(_REAL)
            tensors |= {f"{number}.{which}": _stored(_REAL) for which in "ab"}
        report = {"modules": modules, "bytes_read": 0, "bytes_written": 0}
        return Truncation(report, _NOWHERE, tensors, len(files))

    def turn(
        self, basis: Decomposition, found: Truncation, modules: Sequence[Held], file: int, *, by_columns: bool
    ) -> Turned:
        """Put the products nowhere."""
        del basis, by_columns
        places = []
        for number, module in enumerate(modules):
            places.append([Place(file, 0, _REAL)] * len(module.entry.terms))
            self.scratch_bytes += module.entry.total_rank * found.rank(number) * element_size(_REAL)
        return Turned(places, _NOWHERE)


def _directions(entry: Entry, kind: Kind) -> int:
    sides = {
        "sum": (entry.rows, entry.columns),
        "joint_columns": (entry.rows,),
        "joint_rows": (entry.columns,),
    }
    return min(entry.total_rank, *sides[kind])


def _found(rank: int) -> dict[str, Any]:
    """Say of a module what a stage says, as far as a plan has a use for it."""
    return {"rank": rank, "sigma": [], "min_gap": 1.0, "route": "", "error": 0.0}


def _stored(dtype: str) -> StoredTensor:
    return StoredTensor(0, 0, 0, dtype, ())
