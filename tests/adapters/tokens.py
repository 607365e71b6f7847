"""Adapters with trained tokens, of chosen numbers, and what several of them make of a base's rows in float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from adapters.handmade import HIDDEN, Q, dyadic
from adapters.merging import PREFIX, Lora

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

EMBEDDINGS, HEAD = "model.embed_tokens", "lm_head"


def key_of(path: str) -> str:
    return f"{PREFIX}{path}.token_adapter.trainable_tokens_delta"


def with_tokens(
    seed: int, tokens: Mapping[str, Sequence[int]], dtype: Any = np.float32, *, targets: Iterable[str] = ()
) -> Lora:
    """Multiples of 1/8: rows of `tokens` (module's path: numbers), and factors of a rank of 2."""
    rng = np.random.default_rng([seed, 5])
    paths = tuple(targets) or (Q.format(0),)
    factors = {
        path: (dyadic(rng, (2, HIDDEN), np.float32), dyadic(rng, (HIDDEN, 2), np.float32)) for path in paths
    }
    made = Lora(factors)
    made.settings["trainable_token_indices"] = {path: list(rows) for path, rows in tokens.items()}
    for path, rows in tokens.items():
        made.more[key_of(path).removeprefix(PREFIX)] = dyadic(rng, (len(rows), HIDDEN), dtype)
    return made


def rows_of(made: Lora, path: str) -> dict[int, Array]:
    """The rows that an adapter trained, by number, in float64."""
    numbers = made.settings["trainable_token_indices"].get(path, [])
    held = made.more[key_of(path).removeprefix(PREFIX)] if len(numbers) else []
    return {number: row.astype(np.float64) for number, row in zip(numbers, held, strict=True)}


def summed(matrix: Array, adapters: Iterable[tuple[Lora, float]], path: str = EMBEDDINGS) -> Array:
    """base + Σ w·(row − base) of every row that an adapter trained, in float64."""
    base = matrix.astype(np.float64)
    found = base.copy()
    for made, weight in adapters:
        for number, row in rows_of(made, path).items():
            found[number] += weight * (row - base[number])
    return found
