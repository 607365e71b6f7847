"""Results that are not of low rank, cut down to a stated rank: one dense module at a time, in memory.

TIES and its kin on ΔW = s·B·A leave a matrix of full rank; its best approximation of rank r is what an adapter
can hold. In a KnOTS basis the same is done to the merged coordinates, which the basis only turns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from carrick.adapters.factors_file import FactorsFile
from carrick.adapters.merging.decomposition import read_factors
from carrick.adapters.merging.knots import Coordinates
from carrick.adapters.merging.outputs import real_of, update_of, zeros
from carrick.adapters.merging.sums import add_zero
from carrick.adapters.truncation import Cut, Truncation, truncate
from carrick.plan.description import Place
from carrick.plan.job import CAST, Input, Job

if TYPE_CHECKING:
    from carrick.adapters.merging.decomposition import Decomposition
    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe


def merge_updates_to_rank(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, engine: Engine) -> None:
    """Merge the ΔW of every module, and add the best factors of the result."""
    jobs = []
    for entry in lineup.entries:
        values = recipe.of(entry)
        real = real_of(entry, recipe.adapter.precision)
        inputs = [zeros(entry.rows, entry.columns, real) for _ in lineup.adapters]
        for term in entry.terms:
            inputs[term.index] = Input(update_of(term, entry.rows, entry.columns, real))
        for index, (one, parameters) in enumerate(zip(inputs, values.parameters, strict=True)):
            one.index, one.parameters = index, parameters
        shape = (entry.rows, entry.columns)
        jobs.append(Job(entry.weight_name, shape, "F32", recipe.plain_method, values.options, inputs))
    found = _truncate(lineup, recipe, jobs, engine)
    for number, entry in enumerate(lineup.entries):
        outputs.modules.append(_diagnostics(entry, found.modules[number]))
        rank = found.rank(number)
        if rank == 0:
            add_zero(entry, outputs)
            continue
        outputs.add_rank(entry, rank)
        outputs.add_a(entry, rank, CAST, {}, [Input(found.place(number, "a"))])
        outputs.add_b(entry, rank, CAST, {}, [Input(found.place(number, "b"))])


class _Held(NamedTuple):
    """A module whose updates are not all zero: its number, and its coordinates in the basis."""

    number: int
    entry: Entry
    coordinates: Coordinates


def merge_basis_to_rank(
    lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, basis: Decomposition, engine: Engine
) -> None:
    """Merge the coordinates of every module, cut them down, and turn the factors with the basis.

    U has orthonormal columns: the best approximation of the merged X gives that of U·X.
    """
    by_columns = recipe.merge_options["direction"] == "columns"
    held = []
    for number, entry in enumerate(lineup.entries):
        if basis.rank(number) == 0:
            add_zero(entry, outputs)
        else:
            held.append(_Held(number, entry, Coordinates(recipe, basis, number)))
    jobs = []
    for module in held:
        options, inputs = module.coordinates.merge(by_columns=by_columns)
        rows, columns = module.coordinates.shape(by_columns=by_columns)
        # The name keys the masks and orders the trim: that of the tensor which holds the coordinates otherwise.
        name = module.entry.names[0 if by_columns else 1]
        jobs.append(Job(name, (rows, columns), "F32", recipe.plain_method, options, inputs))
    found = _truncate(lineup, recipe, jobs, engine)
    with FactorsFile(engine.folder / "turned.factors", sum(len(m.entry.terms) for m in held)) as file:
        turned = _Turned(basis, found, lineup, file)
        for place, module in enumerate(held):
            outputs.modules.append(_diagnostics(module.entry, found.modules[place]))
            rank = found.rank(place)
            if rank == 0:
                add_zero(module.entry, outputs)
                continue
            outputs.add_rank(module.entry, rank)
            places = turned.places(place, module, by_columns=by_columns)
            through = Input(module.coordinates.through(places, rank, by_columns=by_columns))
            a = Input(found.place(place, "a")) if by_columns else through
            b = through if by_columns else Input(found.place(place, "b"))
            outputs.add_a(module.entry, rank, CAST, {}, [a])
            outputs.add_b(module.entry, rank, CAST, {}, [b])
    lineup.files.append(file.record)


class _Turned:
    """The factor of X that the basis turns, as the small matrices that each B (or A) is multiplied with."""

    def __init__(
        self, basis: Decomposition, found: Truncation, lineup: AdapterLineup, file: FactorsFile
    ) -> None:
        self._basis = read_factors(basis.record)
        self._found = read_factors(found.record)
        self._file = file
        self._number = len(lineup.files)

    def places(self, number: int, module: _Held, *, by_columns: bool) -> list[Place]:
        """Multiply Pᵢ·b (or a·Pᵢ) for each term, and return where the products lie."""
        factor = self._found(f"{number}.{'b' if by_columns else 'a'}").astype("float64")
        places = []
        for term in range(len(module.entry.terms)):
            p = self._basis(f"{module.number}.{term}.p").astype("float64")
            product = (p @ factor if by_columns else factor @ p).astype("float32")
            places.append(Place(self._number, *self._file.add(product)))
        return places


def _truncate(lineup: AdapterLineup, recipe: Recipe, jobs: list[Job], engine: Engine) -> Truncation:
    options = recipe.adapter
    cuts = [Cut(options.rank, options.energy) for _ in jobs]
    found = truncate(lineup.files, jobs, cuts, engine, seed=recipe.document.seed or 0)
    lineup.files.append(found.record)
    return found


def _diagnostics(entry: Entry, module: dict[str, Any]) -> dict[str, Any]:
    sigma = module["sigma"]
    gaps = [(one - next_) / one for one, next_ in pairwise(sigma) if one > 0]
    return {
        "path": entry.path,
        "rank": module["rank"],
        "sigma": sigma,
        "min_gap": min(gaps, default=1.0),
        "route": module["route"],
        "error": module["error"],
    }
