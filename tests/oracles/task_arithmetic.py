"""Task Arithmetic (Ilharco et al., 2212.04089): θ = θ₀ + λ·Σ wᵢ·δᵢ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .onto_base import onto_base, weighted_sum
from .sparse import sparsify, task_vectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dtypes import Array
    from .estimate import Estimate


def merge(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    normalize: bool = False,
    lambda_: float = 1.0,
) -> dict[str, Estimate]:
    deltas = task_vectors(base, models)
    merged = {}
    for name, b in base.items():
        vectors = [sparsify(delta[name], np.ones(b.shape, bool)) for delta in deltas]
        merged[name] = onto_base(b, weighted_sum(vectors, weight, normalize), lambda_, vectors)
    return merged
