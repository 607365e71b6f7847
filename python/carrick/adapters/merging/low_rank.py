"""Results that are not of low rank, cut down to a stated rank: one dense module at a time, in memory.

TIES and its kin on ΔW = s·B·A leave a matrix of full rank; its best approximation of rank r is what an adapter
can hold. In a KnOTS basis the same is done to the merged coordinates, which the basis only turns.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from carrick.adapters.merging.knots import Coordinates
from carrick.adapters.merging.outputs import real_of, update_of, zeros
from carrick.adapters.merging.stages import Held
from carrick.adapters.merging.sums import add_zero, diagnostics
from carrick.adapters.truncation import Cut
from carrick.plan.job import CAST, Input, Job

if TYPE_CHECKING:
    from carrick.adapters.merging.decomposition import Decomposition
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe
    from carrick.adapters.merging.stages import Stages
    from carrick.adapters.truncation import Truncation


def merge_updates_to_rank(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, stages: Stages) -> None:
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
    found = _truncate(lineup, recipe, outputs, jobs, stages)
    for number, entry in enumerate(lineup.entries):
        outputs.modules.append(_diagnostics(entry, found.modules[number]))
        rank = found.rank(number)
        if rank == 0:
            add_zero(entry, outputs)
            continue
        outputs.add_rank(entry, rank)
        outputs.add_a(entry, rank, CAST, {}, [Input(found.place(number, "a"))])
        outputs.add_b(entry, rank, CAST, {}, [Input(found.place(number, "b"))])


class _Based(NamedTuple):
    """A module whose updates are not all zero: its number, and its coordinates in the basis."""

    number: int
    entry: Entry
    coordinates: Coordinates


def merge_basis_to_rank(
    lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, basis: Decomposition, stages: Stages
) -> None:
    """Merge the coordinates of every module, cut them down, and turn the factors with the basis.

    U has orthonormal columns: the best approximation of the merged X gives that of U·X. Reported are rank and error of
    that cut, beside the singular values of the basis, on whose gaps the merge hangs.
    """
    by_columns = recipe.merge_options["direction"] == "columns"
    held = []
    for number, entry in enumerate(lineup.entries):
        if basis.rank(number) == 0:
            outputs.modules.append(diagnostics(entry, basis.modules[number]))
            add_zero(entry, outputs)
        else:
            held.append(_Based(number, entry, Coordinates(recipe, basis, number)))
    jobs = []
    for module in held:
        options, inputs = module.coordinates.merge(by_columns=by_columns)
        rows, columns = module.coordinates.shape(by_columns=by_columns)
        # The name keys the masks and orders the trim: that of the tensor which holds the coordinates otherwise.
        name = module.entry.names[0 if by_columns else 1]
        jobs.append(Job(name, (rows, columns), "F32", recipe.plain_method, options, inputs))
    found = _truncate(lineup, recipe, outputs, jobs, stages)
    modules = [Held(module.number, module.entry) for module in held]
    turned = stages.turn(basis, found, modules, len(lineup.files), by_columns=by_columns)
    lineup.files.append(turned.record)
    for place, module in enumerate(held):
        cut = {name: found.modules[place][name] for name in ("rank", "error")}
        outputs.modules.append(diagnostics(module.entry, {**basis.modules[module.number], **cut}))
        rank = found.rank(place)
        if rank == 0:
            add_zero(module.entry, outputs)
            continue
        outputs.add_rank(module.entry, rank)
        through = Input(module.coordinates.through(turned.places[place], rank, by_columns=by_columns))
        a = Input(found.place(place, "a")) if by_columns else through
        b = through if by_columns else Input(found.place(place, "b"))
        outputs.add_a(module.entry, rank, CAST, {}, [a])
        outputs.add_b(module.entry, rank, CAST, {}, [b])


def _truncate(
    lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, jobs: list[Job], stages: Stages
) -> Truncation:
    options = recipe.adapter
    if recipe.precision == "float64":
        why = "F64 adapters" if options.precision == "float32" else "`precision: float64`"
        outputs.notes.append(
            f"{why}: computed in float64 up to the cut to a rank, which is made in float32; leave the rank out, or "
            "truncate the sum (`cat`), to keep float64 throughout."
        )
    cuts = [Cut(options.rank, options.energy) for _ in jobs]
    found = stages.truncate(lineup.files, jobs, cuts, seed=recipe.document.seed or 0)
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
