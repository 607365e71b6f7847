"""Layer swapping of adapters: each module from the task expert or from the language expert, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.merging.lineup import stacks_of
from carrick.adapters.merging.outputs import real_of, stacked_a, stacked_b
from carrick.errors import PlanError
from carrick.plan.job import CAST
from carrick.plan.layer_swap import AVERAGE, LANGUAGE, TASK, Experts

if TYPE_CHECKING:
    from carrick.adapters.merging.lineup import AdapterLineup, Entry, Term
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe


def swap_modules(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> None:
    """Add every module of the expert that gives it, with its own rank and α; `average` is an exact sum of halves.

    A module that the giving expert does not have is left out: its update is zero there.

    Raises
    ------
    PlanError
        The partition leaves one expert nothing, or a module is to come from the base.
    """
    experts = Experts(recipe.document, stacks_of(lineup.entries), [e.weight_name for e in lineup.entries])
    indices = {TASK: experts.task_index, LANGUAGE: 1 - experts.task_index}
    for entry in lineup.entries:
        giver = experts.giver(entry.weight_name)
        if giver == AVERAGE:
            _add_average(entry, recipe, outputs)
            continue
        if giver not in indices:
            raise PlanError(
                f"{entry.path}: is to come from the `{giver}`, whose update is zero; give `task`, `language` or "
                "`average`"
            )
        term = next((term for term in entry.terms if term.index == indices[giver]), None)
        if term is not None:
            _add_copy(entry, term, outputs)
    if not outputs.ranks:
        raise PlanError("no module is left: neither expert has the modules that it was to give")


def _add_copy(entry: Entry, term: Term, outputs: Outputs) -> None:
    module = term.module
    a_name, b_name = entry.names
    # α over r is the scale that the module has now, rsLoRA or not.
    outputs.add_rank(entry, module.rank, module.scale * module.rank)
    outputs.add_copy(a_name, module.a.shape, term.a)
    outputs.add_copy(b_name, module.b.shape, term.b)


def _add_average(entry: Entry, recipe: Recipe, outputs: Outputs) -> None:
    real = real_of(entry, recipe.adapter.precision)
    outputs.add_rank(entry, entry.total_rank)
    scales = [0.5 * term.module.scale for term in entry.terms]
    outputs.add_a(entry, entry.total_rank, CAST, {}, [stacked_a(entry, scales, real)])
    outputs.add_b(entry, entry.total_rank, CAST, {}, [stacked_b(entry, real)])
