"""The weighted sum of updates: exact by concatenation, or its best approximation of a given rank."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.adapters.merging.outputs import (
    product_with_a,
    product_with_b,
    real_of,
    stacked_a,
    stacked_b,
    zeros,
)
from carrick.plan.description import Description
from carrick.plan.job import CAST, Input

if TYPE_CHECKING:
    from carrick.adapters.merging.decomposition import Decomposition
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe


def concatenate(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> None:
    """Add A = [λw₁s₁A₁; …] and B = [B₁ … Bₙ] of every module: exactly Σ λwᵢsᵢBᵢAᵢ, of rank Σ rᵢ.

    The scales go to A, as PEFT's `cat` has it, so that B is copied bit for bit.
    """
    for entry in lineup.entries:
        real, rank = real_of(entry, recipe.adapter.precision), entry.total_rank
        scales = recipe.term_scales(entry)
        outputs.add_rank(entry, rank)
        outputs.add_a(entry, rank, CAST, {}, [stacked_a(entry, scales, real)])
        outputs.add_b(entry, rank, CAST, {}, [stacked_b(entry, real)])


def truncate(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, found: Decomposition) -> None:
    """Add the best approximation that a decomposition of the sum found."""
    for number, entry in enumerate(lineup.entries):
        real, rank = real_of(entry, recipe.precision), found.rank(number)
        outputs.modules.append(diagnostics(entry, found.modules[number]))
        if rank == 0:
            add_zero(entry, outputs)
            continue
        a, b = Description(rank, entry.columns, dtype=real), Description(entry.rows, rank, dtype=real)
        for place, term in enumerate(entry.terms):
            left, right = found.place(number, place, "q"), found.place(number, place, "p")
            a.products += product_with_a(term, left, rank, entry.columns, real).products
            b.products += product_with_b(term, right, entry.rows, rank, real).products
        outputs.add_rank(entry, rank)
        outputs.add_a(entry, rank, CAST, {}, [Input(a)])
        outputs.add_b(entry, rank, CAST, {}, [Input(b)])


def add_zero(entry: Entry, outputs: Outputs) -> None:
    """Add a module whose update is zero: PEFT wants a rank of at least 1."""
    outputs.add_rank(entry, 1)
    outputs.add_a(entry, 1, CAST, {}, [zeros(1, entry.columns)])
    outputs.add_b(entry, 1, CAST, {}, [zeros(entry.rows, 1)])


def diagnostics(entry: Entry, module: dict[str, Any]) -> dict[str, Any]:
    """Return what the report says of a module."""
    sigma = module["sigma"]
    return {
        "path": entry.path,
        "rank": module["rank"],
        "sigma": sigma,
        "min_gap": module["min_gap"],
        "route": module["route"],
        "error": module["error"],
    }
