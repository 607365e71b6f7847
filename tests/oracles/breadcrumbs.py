"""Model Breadcrumbs (Davari & Belilovsky, 2312.06795): drop outliers at the top and noise at the bottom.

Ranks ascend by |δ|; among equals the lower index is the larger. keep = int(d·n), top = int(gamma·n),
bottom = max(0, n - keep - top); ranks bottom, …, bottom + keep - 1 are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .onto_base import onto_base, weighted_sum
from .sparse import Sparse, sparsify, task_vectors
from .ties import elect_and_merge
from .trim import descending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dtypes import Array
    from .estimate import Estimate


def band_mask(delta: Array, density: float, gamma: float) -> Array:
    n = delta.size
    keep, top = int(density * n), int(gamma * n)
    bottom = max(0, n - keep - top)
    ascending = descending(delta.reshape(-1))[::-1]
    mask = np.zeros(n, bool)
    mask[ascending[bottom : bottom + keep]] = True
    return mask.reshape(delta.shape)


def banded(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    density: Sequence[float],
    gamma: Sequence[float],
    rescale: str,
) -> dict[str, list[Sparse]]:
    deltas = task_vectors(base, models)
    how = {"false": "false", "true": "l1", "l1": "l1", "density": "probability"}[rescale]
    return {
        name: [
            sparsify(delta[name], band_mask(delta[name], d, g), d, "false" if d in (0, 1) else how)
            for delta, d, g in zip(deltas, density, gamma, strict=True)
        ]
        for name in base
    }


def linear(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    gamma: Sequence[float],
    normalize: bool = False,
    lambda_: float = 1.0,
    rescale: str = "false",
) -> dict[str, Estimate]:
    vectors = banded(base, models, density, gamma, rescale)
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
    gamma: Sequence[float],
    normalize: bool = False,
    lambda_: float = 1.0,
    rescale: str = "false",
    **options: str,
) -> dict[str, Estimate]:
    vectors = banded(base, models, density, gamma, rescale)
    return elect_and_merge(base, vectors, weight, normalize=normalize, lambda_=lambda_, **options)
