"""Small sets of adapters, as NumPy arrays and as the modules of a device merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from carrick.torch import Merged, Module, Term, merge_on_device, read_options
from device.oracle import Dense

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from device.oracle import Model
    from oracles.dtypes import Array

SHAPES = {
    "model.layers.0.q_proj": (24, 40),
    "model.layers.0.k_proj": (9, 40),
    "model.layers.1.q_proj": (24, 40),
    "model.layers.1.down_proj": (40, 17),
}


def random_term(rng: np.random.Generator, outer: int, inner: int, rank: int) -> Dense:
    a, b = rng.standard_normal((rank, inner)), rng.standard_normal((outer, rank))
    # Columns of growing size keep the singular values apart.
    return Dense(
        (a * np.arange(1, rank + 1)[:, None]).astype(np.float32), b.astype(np.float32), 0.5 + rng.random()
    )


def random_model(
    seed: int, ranks: Sequence[int] = (4, 4, 4), shapes: dict[str, tuple[int, int]] = SHAPES
) -> Model:
    rng = np.random.default_rng(seed)
    return {
        path: [random_term(rng, outer, inner, rank) if rank else None for rank in ranks]
        for path, (outer, inner) in shapes.items()
    }


def torch_term(term: Dense, dtype: torch.dtype = torch.float32) -> Term:
    return Term(torch.from_numpy(term.a).to(dtype), torch.from_numpy(term.b).to(dtype), term.scale)


def modules_of(model: Model, **fields: Any) -> list[Module]:
    return [
        Module.of(path, [None if term is None else torch_term(term) for term in terms], **fields)
        for path, terms in model.items()
    ]


def merge(model: Model, method: str, device: str = "cpu", **options: Any) -> dict[str, Merged]:
    adapters = len(next(iter(model.values())))
    settings = read_options(method, adapters, **options)
    return {result.path: result for result in merge_on_device(modules_of(model), settings, device)}


def dense(result: Merged) -> Array:
    product: Array = result.b.cpu().double().numpy() @ result.a.cpu().double().numpy()
    return product
