"""DARE (Yu et al., 2311.03099): keep each entry with probability d, divide by d; then sum or elect.

Density is the kept fraction, 1 - p of the paper. No trim by magnitude, also in `dare_ties`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .onto_base import onto_base, weighted_sum
from .random_mask import keep_mask, random_words
from .sparse import Sparse, sparsify, task_vectors
from .ties import elect_and_merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .dtypes import Array
    from .estimate import Estimate


def dropped(
    base: dict[str, Array], models: list[dict[str, Array]], density: Sequence[float], rescale: str, seed: int
) -> dict[str, list[Sparse]]:
    deltas = task_vectors(base, models)
    how = {"false": "false", "true": "probability", "density": "probability", "l1": "l1"}[rescale]
    return {
        name: [
            sparsify(
                delta[name],
                keep_mask(random_words(seed, i, name, b.size), d).reshape(b.shape),
                d,
                "false" if d in (0, 1) else how,
            )
            for i, (delta, d) in enumerate(zip(deltas, density, strict=True))
        ]
        for name, b in base.items()
    }


def linear(
    base: dict[str, Array],
    models: list[dict[str, Array]],
    *,
    weight: Sequence[float],
    density: Sequence[float],
    seed: int,
    normalize: bool = False,
    lambda_: float = 1.0,
    rescale: str = "true",
) -> dict[str, Estimate]:
    vectors = dropped(base, models, density, rescale, seed)
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
    seed: int,
    normalize: bool = False,
    lambda_: float = 1.0,
    rescale: str = "true",
    **options: str,
) -> dict[str, Estimate]:
    vectors = dropped(base, models, density, rescale, seed)
    return elect_and_merge(base, vectors, weight, normalize=normalize, lambda_=lambda_, **options)
