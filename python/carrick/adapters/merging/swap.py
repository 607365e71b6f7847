"""Layer swapping of adapters: each module from the task expert or from the language expert, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.merging.lineup import stacks_of
from carrick.adapters.merging.outputs import real_of, stacked_a, stacked_b
from carrick.checkpoints import Stack, locate
from carrick.errors import PlanError
from carrick.plan.job import CAST
from carrick.plan.layer_swap import AVERAGE, BASE, LANGUAGE, TASK, Experts
from carrick.plan.roles import role_outside

if TYPE_CHECKING:
    from carrick.adapters.merging.lineup import AdapterLineup, Entry, Term
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe


def givers(lineup: AdapterLineup, recipe: Recipe) -> dict[str, Term | None]:
    """Tell of every module that is written which expert's it is; None for the average of both.

    A module that is to come from the base, or that the giving expert does not have, is left out: its update is zero.

    Raises
    ------
    PlanError
        The partition leaves one expert nothing, or no module is left.
    """
    experts = Experts(recipe.document, _stacks(lineup, recipe), [e.weight_name for e in lineup.entries])
    indices = {TASK: experts.task_index, LANGUAGE: 1 - experts.task_index}
    found: dict[str, Term | None] = {}
    for entry in lineup.entries:
        giver = experts.giver(entry.weight_name)
        if giver == AVERAGE:
            found[entry.path] = None
            continue
        if giver == BASE:
            continue
        term = next((term for term in entry.terms if term.index == indices[giver]), None)
        if term is not None:
            found[entry.path] = term
    if not found:
        raise PlanError("no module is left: neither expert has the modules that it was to give")
    return found


def swap_modules(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> None:
    """Add every module of the expert that gives it, with its own rank and α; `average` is an exact sum of halves.

    Raises
    ------
    PlanError
        As `givers` says.
    """
    outputs.notes += _notes(lineup, recipe)
    found = givers(lineup, recipe)
    for entry in lineup.entries:
        term = found.get(entry.path)
        if term is not None:
            _add_copy(entry, term, outputs)
        elif entry.path in found:
            _add_average(entry, recipe, outputs)


def _stacks(lineup: AdapterLineup, recipe: Recipe) -> list[Stack]:
    """Find the stacks of layers; a pattern needs no counts, so that any numbers are layers to it."""
    numbers = _numbers(lineup)
    if _by_pattern(recipe):
        return [Stack(prefix, max(held) + 1) for prefix, held in numbers.items()]
    stacks = stacks_of(lineup.entries)
    counted = {stack.prefix for stack in stacks}
    for prefix, held in numbers.items():
        if prefix in counted or held == {0} or role_outside(f"{prefix}.", recipe.document.roles) is not None:
            continue
        raise PlanError(
            f"the adapters' modules are in the layers {_shown(held)} of {prefix}, and layers are counted only where "
            f"all are there from 0 on; name those of the language expert {_by_name(prefix)}"
        )
    return stacks


def _numbers(lineup: AdapterLineup) -> dict[str, set[int]]:
    """Collect the numbers of the layers in which the adapters have modules."""
    numbers: dict[str, set[int]] = {}
    for entry in lineup.entries:
        place = locate(entry.weight_name)
        if place is not None:
            numbers.setdefault(place.prefix, set()).add(place.number)
    return numbers


def _by_pattern(recipe: Recipe) -> bool:
    swap = recipe.document.layer_swap
    return swap is not None and swap.match is not None


def _notes(lineup: AdapterLineup, recipe: Recipe) -> list[str]:
    """Say where the base may have more layers than the adapters' modules show."""
    some = [a.ref for a in lineup.adapters if a.config.layers_to_transform is not None]
    if not some or _by_pattern(recipe):
        return []
    return [
        f"{some[0]} was put on some layers alone (`layers_to_transform`), and the base may have more than the modules "
        f"show; name those of the language expert {_by_name(next(iter(_numbers(lineup))))}."
    ]


def _by_name(prefix: str) -> str:
    pattern = rf"{prefix.rpartition('.')[2]}\.(0|1|7)\."
    return f"in a YAML by a regular expression, such as `layers: {{match: '{pattern}'}}`"


def _shown(numbers: set[int]) -> str:
    first, last = min(numbers), max(numbers)
    if len(numbers) > 2 and last - first + 1 == len(numbers):
        return f"{first} to {last}"
    return ", ".join(map(str, sorted(numbers)))


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
