"""A and B merged apart, as PEFT's `linear`, `ties`, `dare_*` and `magnitude_prune` do.

(Σ√wB)(Σ√wA) is not Σ wBA: the cross terms make another update. It is here for people who need the old numbers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carrick.errors import PlanError
from carrick.plan.job import Input

if TYPE_CHECKING:
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe

METHODS = ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "magnitude_prune")


def merge_factors(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> None:
    """Add the jobs: c = w·s; A takes sign(c)·√|c| as its weight, B takes √|c|.

    Raises
    ------
    PlanError
        A method that PEFT does not have in this form, or adapters of different ranks.
    """
    if recipe.method not in METHODS:
        raise PlanError(
            f"`space: factors` has {', '.join(METHODS)}; `{recipe.method}` merges updates as they are"
        )
    for entry in lineup.entries:
        rank = _common_rank(entry, lineup)
        outputs.add_rank(entry, rank)
        values = recipe.of(entry)
        if values.options.get("normalize"):
            raise PlanError(
                "`normalize`, which `variant: mergekit` turns on, divides updates by Σ w, and `space: factors` has √w "
                "on each factor: give `normalize: false` and weights that sum to 1 instead"
            )
        method = "task_arithmetic" if recipe.method == "linear" else recipe.method
        options = values.options if method == recipe.method else {"normalize": False, "lambda": 1.0}
        outputs.add_a(entry, rank, method, options, _inputs(entry, values.parameters, b=False))
        # λ scales the update once, so only one of its factors.
        outputs.add_b(
            entry, rank, method, {**options, "lambda": 1.0}, _inputs(entry, values.parameters, b=True)
        )


def _common_rank(entry: Entry, lineup: AdapterLineup) -> int:
    ranks = {term.module.rank: lineup.names[term.index] for term in entry.terms}
    if len(ranks) > 1:
        listed = ", ".join(f"{rank} in {name}" for rank, name in ranks.items())
        raise PlanError(
            f"{entry.path}: the ranks differ ({listed}), and factors can only be merged where they are equal; "
            "leave `space: factors` out"
        )
    return next(iter(ranks))


def _inputs(entry: Entry, parameters: tuple[dict[str, Any], ...], *, b: bool) -> list[Input]:
    inputs = []
    for term in entry.terms:
        own = dict(parameters[term.index])
        c = float(own["weight"]) * term.module.scale
        own["weight"] = math.sqrt(abs(c)) if b else math.copysign(math.sqrt(abs(c)), c)
        inputs.append(Input(term.b if b else term.a, index=term.index, parameters=own))
    return inputs
