"""Magnitude pruning: θ = θ₀ + λ·Σ wᵢ·trim(δᵢ)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import ties
from .onto_base import onto_base, weighted_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dtypes import Array
    from .estimate import Estimate


def merge(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    normalize: bool = False,
    lambda_: float = 1.0,
    rescale: str = "false",
    trim_scope: str = "tensor",
    kept_count: str = "at_least_one",
    at_threshold: str = "lowest_index",
) -> dict[str, Estimate]:
    vectors = ties.trimmed(
        base,
        models,
        density,
        rescale=rescale,
        trim_scope=trim_scope,
        kept_count=kept_count,
        at_threshold=at_threshold,
    )
    return {
        name: onto_base(b, weighted_sum(vectors[name], weight, normalize), lambda_, vectors[name])
        for name, b in base.items()
    }
