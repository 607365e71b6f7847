"""KnOTS: the updates in the basis that they share, merged there by the engine.

[ΔW₁ | … | ΔWₙ] = U·Σ·[V₁ᵀ | … | Vₙᵀ]; the Σ·Vᵢᵀ are merged like task vectors into X, and B = U, A = X is the
result, exactly. (By rows: [ΔW₁; …; ΔWₙ], the UᵢΣ are merged, A = Vᵀ.) Nothing of the size of ΔW is ever made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.merging.outputs import product_with_a, product_with_b, real_of, zeros
from carrick.adapters.merging.sums import add_zero, diagnostics
from carrick.plan.description import Description
from carrick.plan.job import CAST, Input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.merging.decomposition import Decomposition
    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe
    from carrick.methods import Value
    from carrick.plan.description import Place


def merge_in_basis(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, found: Decomposition) -> None:
    """Add the jobs of every module, once the decompositions are there."""
    by_columns = recipe.merge_options["direction"] == "columns"
    for number, entry in enumerate(lineup.entries):
        module = found.modules[number]
        outputs.modules.append(diagnostics(entry, module))
        rank = found.rank(number)
        if rank == 0:
            add_zero(entry, outputs)
            continue
        outputs.add_rank(entry, rank)
        coordinates = Coordinates(recipe, found, number)
        options, inputs = coordinates.merge(by_columns=by_columns)
        basis = [Input(coordinates.basis(by_columns=by_columns))]
        add_merged, add_basis = (
            (outputs.add_a, outputs.add_b) if by_columns else (outputs.add_b, outputs.add_a)
        )
        add_merged(entry, rank, recipe.plain_method, options, inputs)
        add_basis(entry, rank, CAST, {}, basis)


class Coordinates:
    """One module in the basis that its updates share: what is merged there, and the basis."""

    def __init__(self, recipe: Recipe, found: Decomposition, number: int) -> None:
        self._recipe = recipe
        self._found = found
        self._number = number
        self._entry = recipe.lineup.entries[number]
        self._rank = found.rank(number)
        self._real = real_of(self._entry, recipe.precision)

    def shape(self, *, by_columns: bool) -> tuple[int, int]:
        """Rows and columns of the coordinates."""
        return (self._rank, self._entry.columns) if by_columns else (self._entry.rows, self._rank)

    def merge(self, *, by_columns: bool) -> tuple[dict[str, Value], list[Input]]:
        """Return options and inputs of the job that merges Σ·Vᵢᵀ = Qᵢ·Aᵢ (or UᵢΣ = Bᵢ·Qᵢ) of the adapters.

        An adapter that lacks the module gives zeros.
        """
        values = self._recipe.of(self._entry)
        rows, columns = self.shape(by_columns=by_columns)
        product = product_with_a if by_columns else product_with_b
        inputs = [zeros(rows, columns, self._real) for _ in self._recipe.lineup.adapters]
        for place, term in enumerate(self._entry.terms):
            q = self._found.place(self._number, place, "q")
            inputs[term.index] = Input(product(term, q, rows, columns, self._real))
        for index, (one, parameters) in enumerate(zip(inputs, values.parameters, strict=True)):
            one.index, one.parameters = index, parameters
        return values.options, inputs

    def basis(self, *, by_columns: bool) -> Description:
        """Describe U = Σ Bᵢ·Pᵢ, or Vᵀ = Σ Pᵢ·Aᵢ."""
        places = [self._found.place(self._number, i, "p") for i in range(len(self._entry.terms))]
        return self.through(places, self._rank, by_columns=by_columns)

    def through(self, places: Sequence[Place], rank: int, *, by_columns: bool) -> Description:
        """Describe Σ Bᵢ·Mᵢ (or Σ Mᵢ·Aᵢ) of `rank` columns (rows) for stored matrices Mᵢ."""
        rows, columns = (self._entry.rows, rank) if by_columns else (rank, self._entry.columns)
        product = product_with_b if by_columns else product_with_a
        described = Description(rows, columns, dtype=self._real)
        for term, place in zip(self._entry.terms, places, strict=True):
            described.products += product(term, place, rows, columns, self._real).products
        return described
