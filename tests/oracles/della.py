"""DELLA (Deep et al., 2406.11617): keep probabilities that follow the rank of |δ| within its row.

p = d - ε + 2ε·(rank - 1)/(cols - 1), rank 1 the smallest of the row, in float64. Rows run along the last
dimension; a 1-D tensor is one row; equal magnitudes: the lower index is the larger; one column: p = d. Each
kept entry is divided by its own p.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .onto_base import onto_base, weighted_sum
from .random_mask import keep_mask, random_words
from .sparse import Sparse, sparsify, task_vectors
from .ties import elect_and_merge
from .trim import descending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dtypes import Array
    from .estimate import Estimate


def keep_probability(delta: Array, density: float, epsilon: float) -> Array:
    """Probability of each entry, float64, in the shape of `delta`; densities 0 and 1 have no spread."""
    p = np.full(delta.shape, density, np.float64)
    cols = delta.shape[-1] if delta.ndim else 1
    if density in (0, 1) or cols <= 1 or delta.size == 0:
        return p
    rows = delta.reshape(-1, cols)
    rank = np.empty(rows.shape)
    for r, row in enumerate(rows):
        rank[r, descending(row)] = np.arange(cols, 0, -1)
    return (density - epsilon + 2 * epsilon * (rank - 1) / (cols - 1)).reshape(delta.shape)


def dropped(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    density: Sequence[float],
    epsilon: Sequence[float],
    *,
    rescale: str,
    seed: int,
) -> dict[str, list[Sparse]]:
    deltas = task_vectors(base, models)
    vectors: dict[str, list[Sparse]] = {}
    for name, b in base.items():
        vectors[name] = []
        for i, (delta, d, e) in enumerate(zip(deltas, density, epsilon, strict=True)):
            p = keep_probability(delta[name], d, e)
            mask = keep_mask(random_words(seed, i, name, b.size).reshape(b.shape), p)
            how = {"false": "false", "true": "probability", "density": "probability", "l1": "l1"}[rescale]
            divisor = p if rescale == "true" else d
            vectors[name].append(sparsify(delta[name], mask, divisor, "false" if d in (0, 1) else how))
    return vectors


def linear(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    epsilon: Sequence[float],
    seed: int,
    normalize: bool = False,
    lambda_: float = 1.0,
    rescale: str = "true",
) -> dict[str, Estimate]:
    vectors = dropped(base, models, density, epsilon, rescale=rescale, seed=seed)
    return {
        name: onto_base(b, weighted_sum(vectors[name], weight, normalize), lambda_, vectors[name])
        for name, b in base.items()
    }


def ties(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    epsilon: Sequence[float],
    seed: int,
    normalize: bool = True,
    lambda_: float = 1.0,
    rescale: str = "true",
    **options: str,
) -> dict[str, Estimate]:
    vectors = dropped(base, models, density, epsilon, rescale=rescale, seed=seed)
    return elect_and_merge(base, vectors, weight, normalize=normalize, lambda_=lambda_, **options)
