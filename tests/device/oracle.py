"""KnOTS (Stoica et al., 2410.19735) from dense matrices in float64, as its text and published code define it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from oracles import dare, magnitude_prune, ties

if TYPE_CHECKING:
    from collections.abc import Sequence

    from oracles.dtypes import Array


@dataclass(frozen=True)
class Dense:
    """ΔW = s·B·A of one adapter in one module, with its factors."""

    a: Array
    b: Array
    scale: float

    @property
    def delta(self) -> Array:
        return self.scale * (self.b.astype(np.float64) @ self.a.astype(np.float64))


Model = dict[str, list[Dense | None]]
"""For each module's path the adapters' terms."""


def tensor_name(path: str, direction: str) -> str:
    return f"base_model.model.{path}.lora_{'A' if direction == 'columns' else 'B'}.weight"


def deltas_of(terms: Sequence[Dense | None]) -> list[Array]:
    shape = next(term.delta.shape for term in terms if term is not None)
    return [np.zeros(shape) if term is None else term.delta for term in terms]


def joint(
    deltas: Sequence[Array], direction: str, tolerance: float, absolute: float | None = None
) -> tuple[Array, list[Array], Array]:
    """(shared basis, coordinates of each, all singular values) by an SVD of the concatenation."""
    stacked = np.concatenate(deltas, axis=1 if direction == "columns" else 0)
    u, sigma, vt = np.linalg.svd(stacked, full_matrices=False)
    cut = absolute if absolute is not None else tolerance * sigma[0]
    k = int(np.sum(sigma > cut))
    if direction == "columns":
        signs = np.where(u[:, :k].sum(0) < 0, -1.0, 1.0)
        u, vt = u[:, :k] * signs, vt[:k] * signs[:, None]
        return u, exact_zeros(np.split(sigma[:k, None] * vt, len(deltas), axis=1), deltas), sigma
    signs = np.where(vt[:k].sum(1) < 0, -1.0, 1.0)
    u, vt = u[:, :k] * signs, vt[:k] * signs[:, None]
    return vt, exact_zeros(np.split(u * sigma[:k], len(deltas), axis=0), deltas), sigma


def exact_zeros(coordinates: Sequence[Array], deltas: Sequence[Array]) -> list[Array]:
    """An adapter of zeros has coordinates of zeros, where an SVD leaves 1e-17 that would count in a mean."""
    return [x if np.any(delta) else np.zeros_like(x) for x, delta in zip(coordinates, deltas, strict=True)]


def knots(
    model: Model,
    method: str,
    *,
    weights: Sequence[float],
    density: Sequence[float],
    direction: str = "columns",
    tolerance: float = 1e-6,
    absolute: float | None = None,
    seed: int = 0,
    working: type = np.float32,
    **options: Any,
) -> dict[str, Array]:
    """ΔW of each module after the merge; trims and votes decide on the coordinates rounded to `working`."""
    bases, coordinates = {}, {}
    for path, terms in model.items():
        bases[path], coordinates[path], _ = joint(deltas_of(terms), direction, tolerance, absolute)
    names = {path: tensor_name(path, direction) for path in model}
    adapters = len(weights)
    models = [{names[path]: coordinates[path][i].astype(working) for path in model} for i in range(adapters)]
    zeros = {name: np.zeros_like(x) for name, x in models[0].items()}
    numbers = {"weight": weights, "density": density}
    if method == "knots_linear":
        merged = magnitude_prune.merge(zeros, models, weight=weights, density=[1.0] * adapters, **options)
    elif method == "knots_ties":
        variant = options.pop("variant", "reference")
        merged = ties.merge(
            zeros, models, **numbers, variant=variant, **{"normalize": variant == "mergekit", **options}
        )
    elif method == "knots_dare_linear":
        merged = dare.linear(zeros, models, **numbers, seed=seed, **options)
    elif method == "knots_dare_ties":
        choices = {key: ties.VARIANTS["reference"][key] for key in ("vote", "zero_vote", "aggregate")}
        merged = dare.ties(zeros, models, **numbers, seed=seed, **(choices | options))
    else:
        trim = {key: ties.VARIANTS["reference"][key] for key in ("trim_scope", "kept_count", "at_threshold")}
        merged = magnitude_prune.merge(zeros, models, **numbers, **(trim | options))
    result = {}
    for path in model:
        x = merged[names[path]].value
        result[path] = bases[path] @ x if direction == "columns" else x @ bases[path]
    return result


def relative_error(got: Array, want: Array) -> float:
    return float(np.linalg.norm(got - want) / max(np.linalg.norm(want), 1e-300))
