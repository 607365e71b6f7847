"""KnOTS (Stoica et al., 2410.19735) from dense updates in float64: one SVD of a whole concatenation a module.

[ΔW₁ | … | ΔWₙ] = U·S·[V₁ᵀ | … | Vₙᵀ]; the S·Vᵢᵀ are merged like task vectors, and U turns the result back. By
rows the updates lie one below the other, and the Uᵢ·S are merged. Of the two signs that a direction may have
it has the one whose entries in U (by rows: in Vᵀ) sum to no less than 0. That matters where a vote is exactly 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import updates as plain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .dtypes import Array


@dataclass(frozen=True)
class Basis:
    """U (or Vᵀ by rows), each update's coordinates, and all singular values."""

    shared: Array
    own: list[Array]
    sigma: Array

    @property
    def rank(self) -> int:
        return min(self.shared.shape)

    @property
    def smallest_gap(self) -> float:
        """Of the kept singular values: where two are equal, the directions are anybody's choice."""
        kept = np.append(self.sigma[: self.rank], 0.0)
        return float(np.min(-np.diff(kept) / kept[:-1])) if self.rank else 1.0


def basis(
    updates: Sequence[Array], *, direction: str = "columns", tolerance: float = 1e-6, cut: str = "relative"
) -> Basis:
    """The directions that dense updates share, without those whose singular value does not count."""
    by_columns = direction == "columns"
    u, s, vt = np.linalg.svd(np.concatenate(updates, axis=1 if by_columns else 0), full_matrices=False)
    rank = int(np.sum(s > (tolerance * s[0] if cut == "relative" else tolerance))) if s[0] > 0 else 0
    sign = np.where((u.sum(0) if by_columns else vt.sum(1)) < 0, -1.0, 1.0)
    u, vt = u * sign, vt * sign[:, None]
    # S·Vᵢᵀ = Uᵀ·ΔWᵢ, where the zeros of an update stay zeros: a vote counts what is not zero, however small.
    if by_columns:
        return Basis(u[:, :rank], [u[:, :rank].T @ update for update in updates], s)
    return Basis(vt[:rank], [update @ vt[:rank].T for update in updates], s)


def merge(
    method: str,
    updates: Sequence[Mapping[str, Array]],
    names: Mapping[str, str],
    *,
    variant: str = "reference",
    direction: str = "columns",
    rank_tolerance: float = 1e-6,
    rank_cut: str = "relative",
    noise: np.random.Generator | None = None,
    **options: Any,
) -> dict[str, Array]:
    """Merge the updates of several adapters, by module path.

    Parameters
    ----------
    method
        The method in the basis: `task_arithmetic`, `ties`, `dare_linear`, `dare_ties`, `magnitude_prune`.
    updates
        For each adapter ΔW by module path; a module that it lacks is zero.
    names
        The tensor that holds the merged coordinates of each module: A by columns, B by rows.
    noise
        Disturb the coordinates by 1e-5 of their size: a result that changes by much more hangs on a decision
        that rounding makes.
    options
        Of the method: `weights`, `density`, `lambda_`, `aggregate` and others.
    """
    shapes = {path: matrix.shape for own in updates for path, matrix in own.items()}
    found = {
        path: basis(
            [own.get(path, np.zeros(shape)) for own in updates],
            direction=direction,
            tolerance=rank_tolerance,
            cut=rank_cut,
        )
        for path, shape in shapes.items()
    }
    found_any = {path: b for path, b in found.items() if b.rank}
    coordinates = [
        {names[path]: _disturbed(b.own[i], noise) for path, b in found_any.items()}
        for i in range(len(updates))
    ]
    if method == "magnitude_prune":
        options = {**plain.PUBLISHED_TRIM, **options}
    merged = plain.merge(method, coordinates, variant=variant, **options) if found_any else {}
    result = {path: np.zeros(shape) for path, shape in shapes.items()}
    for path, b in found_any.items():
        x = merged[names[path]]
        result[path] = b.shared @ x if direction == "columns" else x @ b.shared
    return result


def _disturbed(coordinates: Array, noise: np.random.Generator | None) -> Array:
    if noise is None:
        return coordinates
    size = np.sqrt(np.mean(np.square(coordinates)))
    return coordinates + 1e-5 * size * noise.standard_normal(coordinates.shape)
