"""What has to be found before the tensors of a merge can be described: decompositions, and what they are turned by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from carrick.adapters.factors_file import FactorsFile
from carrick.adapters.merging.decomposition import Decomposition, Kind, decompose, read_factors
from carrick.adapters.truncation import Cut, Truncation, truncate
from carrick.plan.description import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.checkpoints import FileRecord
    from carrick.plan.job import Job


class Held(NamedTuple):
    """A module that has a basis, and its number there."""

    number: int
    entry: Entry


class Turned(NamedTuple):
    """The small matrices that each B (or A) is multiplied with, for each module, and their file."""

    places: list[list[Place]]
    record: FileRecord


class Stages(Protocol):
    """How the jobs of a merge come by their decompositions; a plan has bounds in their place."""

    engine: Engine

    def decompose(
        self, lineup: AdapterLineup, kind: Kind, scales: list[list[float]], request: dict[str, Any]
    ) -> Decomposition:
        """Decompose the modules of a lineup; the result is its next file."""

    def truncate(
        self, files: list[FileRecord], jobs: list[Job], cuts: Sequence[Cut], *, seed: int
    ) -> Truncation:
        """Find the best factors of what jobs make; they are the next of the files."""

    def turn(
        self, basis: Decomposition, found: Truncation, modules: Sequence[Held], file: int, *, by_columns: bool
    ) -> Turned:
        """Multiply the factors of merged coordinates with the basis; `file` is the number that they get."""


class CoreStages:
    """The decompositions themselves, made by the core in the engine's folder.

    Attributes
    ----------
    bytes_read
        What they have read so far.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.bytes_read = 0

    def decompose(
        self, lineup: AdapterLineup, kind: Kind, scales: list[list[float]], request: dict[str, Any]
    ) -> Decomposition:
        """See `Stages`."""
        found = decompose(lineup, kind, scales, request, self.engine)
        self.bytes_read += found.bytes_read
        return found

    def truncate(
        self, files: list[FileRecord], jobs: list[Job], cuts: Sequence[Cut], *, seed: int
    ) -> Truncation:
        """See `Stages`."""
        found = truncate(files, jobs, cuts, self.engine, seed=seed)
        self.bytes_read += found.bytes_read
        return found

    def turn(
        self, basis: Decomposition, found: Truncation, modules: Sequence[Held], file: int, *, by_columns: bool
    ) -> Turned:
        """Multiply Pᵢ·b (or a·Pᵢ) for each term of each module."""
        stored, cut = read_factors(basis.record), read_factors(found.record)
        letter = "b" if by_columns else "a"
        places: list[list[Place]] = []
        path = self.engine.folder / "turned.factors"
        with FactorsFile(path, sum(len(module.entry.terms) for module in modules)) as factors:
            for place, module in enumerate(modules):
                places.append([])
                if found.rank(place) == 0:
                    continue
                factor = cut(f"{place}.{letter}").astype("float64")
                for term in range(len(module.entry.terms)):
                    p = stored(f"{module.number}.{term}.p").astype("float64")
                    product = (p @ factor if by_columns else factor @ p).astype("float32")
                    places[-1].append(Place(file, *factors.add(product)))
        return Turned(places, factors.record)
