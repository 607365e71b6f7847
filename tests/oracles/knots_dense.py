"""KnOTS of dense updates in float64, written from the paper and the published code: one SVD of the whole matrix.

Coordinates S·Vᵀ of all matrices are trimmed together, model by model, and merged by sign election.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]


def bases(deltas: list[Array], tolerance: float = 1e-6) -> tuple[Array, Array, list[Array]]:
    """U, all singular values, and S·Vᵢᵀ of each update; directions that are zero are left out."""
    u, s, v = np.linalg.svd(np.concatenate(deltas, axis=1), full_matrices=False)
    k = int((s > tolerance * s[0]).sum()) if s.size and s[0] > 0 else 0
    parts = np.split(s[:k, None] * v[:k], len(deltas), axis=1)
    return u[:, :k], s, parts


def trim(vectors: list[Array], density: float) -> list[Array]:
    """Keep everything from the (int(d·n)+1)-th largest magnitude on; density 0 keeps nothing, 1 everything."""
    if density >= 1:
        return vectors
    if density <= 0:
        return [np.zeros_like(vector) for vector in vectors]
    kept = []
    for vector in vectors:
        count = min(int(density * vector.size) + 1, vector.size)
        threshold = np.sort(np.abs(vector))[vector.size - count]
        kept.append(np.where(np.abs(vector) >= threshold, vector, 0))
    return kept


def elect_and_average(vectors: list[Array], weights: list[float]) -> Array:
    """Sum of signs by mass, a zero vote by the majority of all entries; the mean of those that agree."""
    stack = np.stack(vectors)
    sign = np.sign(stack.sum(0))
    majority = np.sign(sign.sum())
    sign = np.where(sign == 0, majority, sign)
    agree = np.where(sign > 0, stack > 0, stack < 0)
    weighted = stack * np.asarray(weights)[:, None]
    merged: Array = (weighted * agree).sum(0) / np.maximum(1, agree.sum(0))
    return merged


def knots_ties(
    updates: dict[str, list[Array]],
    *,
    density: float,
    weights: list[float] | None = None,
    scale: float = 1.0,
    by_rows: bool = False,
    tolerance: float = 1e-6,
    merge: str = "ties",
) -> dict[str, Array]:
    """Merged updates by name; every matrix has an update of each model."""
    names = sorted(updates)
    models = len(next(iter(updates.values())))
    weights = weights or [1.0] * models
    turned = {name: [d.T if by_rows else d for d in updates[name]] for name in names}
    found = {name: bases([d.astype("f8") for d in turned[name]], tolerance) for name in names}
    flat = []
    for model in range(models):
        parts = [found[name][2][model] for name in names]
        flat.append(np.concatenate([(part.T if by_rows else part).ravel() for part in parts]))
    if merge == "ties":
        merged = elect_and_average(trim(flat, density), weights)
    elif merge == "magnitude_prune":
        merged = sum(w * v for w, v in zip(weights, trim(flat, density), strict=True))
    else:
        merged = sum(w * v for w, v in zip(weights, flat, strict=True))
    merged = scale * merged
    out, at = {}, 0
    for name in names:
        u, _, parts = found[name]
        rows, columns = parts[0].shape
        piece = merged[at : at + rows * columns]
        at += rows * columns
        x = piece.reshape(columns, rows).T if by_rows else piece.reshape(rows, columns)
        out[name] = (u @ x).T if by_rows else u @ x
    return out
