"""What a comparison of models found, as typed values and as plain data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from carrick.similarity.sums import PairSums


@dataclass(frozen=True)
class Likeness:
    """How alike the task vectors of models are in a part of the model, or in all of it.

    Attributes
    ----------
    name
        The part: a layer, a kind of module, a tensor, or ``model``.
    elements
        Entries of one task vector.
    norms
        Length ‖τ‖ of each model's task vector.
    cosine
        Cosine similarity of each pair of models; 0 where one of the two vectors is zero.
    sign_conflicts
        Of the entries where neither of a pair is zero, the share with different signs; 0 without such
        entries. None when signs were not counted.
    """

    name: str
    elements: int
    norms: list[float]
    cosine: list[list[float]]
    sign_conflicts: list[list[float]] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "name": self.name,
            "elements": self.elements,
            "norms": self.norms,
            "cosine": self.cosine,
            "sign_conflicts": self.sign_conflicts,
        }


@dataclass(frozen=True)
class Similarity:
    """How alike models are, in all and part by part.

    Attributes
    ----------
    kind
        ``checkpoints`` or ``adapters``.
    models
        Names of the models, in the order of every row and column.
    base
        Name of the base; None for adapters, which need none.
    whole
        All that was compared together.
    by_layer, by_module, by_tensor
        The same of each layer, each kind of module (``q_proj``), and each tensor, or module of an adapter.
    notes
        What a user should know, such as tensors that were left out.
    """

    kind: Literal["checkpoints", "adapters"]
    models: list[str]
    base: str | None
    whole: Likeness
    by_layer: list[Likeness] = field(default_factory=list)
    by_module: list[Likeness] = field(default_factory=list)
    by_tensor: list[Likeness] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kind": self.kind,
            "models": self.models,
            "base": self.base,
            "whole": self.whole.to_dict(),
            "by_layer": [each.to_dict() for each in self.by_layer],
            "by_module": [each.to_dict() for each in self.by_module],
            "by_tensor": [each.to_dict() for each in self.by_tensor],
            "notes": self.notes,
        }


def likeness(name: str, sums: PairSums) -> Likeness:
    """Turn sums over a part of the model into norms, cosines and shares.

    Examples
    --------
    >>> from carrick.similarity.sums import PairSums
    >>> found = likeness("w", PairSums(4, [[4.0, -3.0], [-3.0, 9.0]], [[4, 2], [2, 3]], [[0, 1], [1, 0]]))
    >>> found.norms, found.cosine, found.sign_conflicts
    ([2.0, 3.0], [[1.0, -0.5], [-0.5, 1.0]], [[0.0, 0.5], [0.5, 0.0]])
    """
    norms = [math.sqrt(max(row[i], 0.0)) for i, row in enumerate(sums.products)]
    models = range(len(norms))
    conflicts = None
    if sums.shared is not None and sums.conflicts is not None:
        conflicts = [[_share(sums.conflicts[i][j], sums.shared[i][j]) for j in models] for i in models]
    cosine = [[_cosine(sums.products[i][j], norms[i], norms[j], same=i == j) for j in models] for i in models]
    return Likeness(name, sums.elements, norms, cosine, conflicts)


def _cosine(product: float, a: float, b: float, *, same: bool) -> float:
    if a == 0 or b == 0:
        return 0.0
    # In this order the matrix is symmetric to the last bit; rounding may carry the quotient past 1.
    return 1.0 if same else min(1.0, max(-1.0, product / max(a, b) / min(a, b)))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
