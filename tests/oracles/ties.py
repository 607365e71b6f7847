"""TIES-Merging (Yadav et al., 2306.01708): trim, elect sign, disjoint merge; its readings as options."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .consensus import agreeing, disjoint_merge, elect, majority, votes
from .onto_base import onto_base
from .sparse import Sparse, sparsify, task_vectors
from .trim import trim_masks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dtypes import Array
    from .estimate import Estimate

VARIANTS: dict[str, dict[str, str]] = {
    "mergekit": {
        "trim_scope": "tensor",
        "kept_count": "at_least_one",
        "at_threshold": "lowest_index",
        "vote": "weighted",
        "zero_vote": "plus",
        "aggregate": "weighted_mean",
    },
    "peft": {
        "trim_scope": "tensor",
        "kept_count": "floor",
        "at_threshold": "lowest_index",
        "vote": "sum",
        "zero_vote": "plus",
        "aggregate": "mean",
    },
    "paper": {
        "trim_scope": "model",
        "kept_count": "floor",
        "at_threshold": "lowest_index",
        "vote": "sum",
        "zero_vote": "none",
        "aggregate": "mean",
    },
    "reference": {
        "trim_scope": "model",
        "kept_count": "floor_plus_one",
        "at_threshold": "all",
        "vote": "sum",
        "zero_vote": "majority",
        "aggregate": "mean",
    },
}


def merge(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    variant: str = "mergekit",
    normalize: bool = True,
    lambda_: float = 1.0,
    rescale: str = "false",
    **options: str,
) -> dict[str, Estimate]:
    """Merge whole models; `options` override single options of the variant."""
    chosen = VARIANTS[variant] | options
    vectors = trimmed(
        base,
        models,
        density,
        rescale=rescale,
        **{key: chosen[key] for key in ("trim_scope", "kept_count", "at_threshold")},
    )
    return elect_and_merge(
        base,
        vectors,
        weight,
        normalize=normalize,
        lambda_=lambda_,
        vote=chosen["vote"],
        zero_vote=chosen["zero_vote"],
        aggregate=chosen["aggregate"],
    )


def trimmed(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    density: Sequence[float],
    *,
    rescale: str,
    trim_scope: str,
    kept_count: str,
    at_threshold: str,
) -> dict[str, list[Sparse]]:
    """Trimmed task vectors by tensor, models in order. `rescale: true` is the tensor's own L1 ratio."""
    deltas = task_vectors(base, models)
    masks = [
        trim_masks(delta, d, trim_scope, kept_count, at_threshold)
        for delta, d in zip(deltas, density, strict=True)
    ]
    how = {"false": "false", "true": "l1", "l1": "l1", "density": "probability"}[rescale]
    return {
        name: [
            sparsify(delta[name], mask[name], d, "false" if d in (0, 1) else how)
            for delta, mask, d in zip(deltas, masks, density, strict=True)
        ]
        for name in base
    }


def elect_and_merge(
    base: dict[str, Array],
    vectors: dict[str, list[Sparse]],
    weight: Sequence[float],
    *,
    normalize: bool,
    lambda_: float,
    vote: str = "weighted",
    zero_vote: str = "plus",
    aggregate: str = "weighted_mean",
) -> dict[str, Estimate]:
    """Everything after the entries have been dropped; a majority of signs ranges over all tensors."""
    totals = {name: votes(vectors[name], weight, vote) for name in base}
    model_majority = majority(list(totals.values()))
    merged = {}
    for name, b in base.items():
        elected = elect(totals[name], zero_vote, model_majority, aggregate)
        agree = agreeing(vectors[name], weight, vote, elected)
        update = disjoint_merge(
            vectors[name], weight, agree, elected, aggregate=aggregate, normalize=normalize
        )
        merged[name] = onto_base(b, update, lambda_, vectors[name])
    return merged
