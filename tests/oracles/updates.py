"""Merging methods on updates ΔW in float64: the base is zero, so what comes out is the merged update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from . import dare, magnitude_prune, task_arithmetic, ties

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .dtypes import Array

# The election of `dare_ties` in the published readings.
ELECTIONS = {
    "reference": {"vote": "sum", "zero_vote": "majority", "aggregate": "mean"},
    "peft": {"vote": "sum", "zero_vote": "plus", "aggregate": "mean"},
    "mergekit": {"vote": "weighted", "zero_vote": "plus", "aggregate": "weighted_mean"},
}
# What `knots_magnitude_prune` does unless it is told otherwise.
PUBLISHED_TRIM = {"trim_scope": "model", "kept_count": "floor_plus_one", "at_threshold": "all"}


def merge(
    method: str,
    updates: Sequence[Mapping[str, Array]],
    *,
    weights: Sequence[float] | None = None,
    density: float | Sequence[float] = 1.0,
    variant: str = "peft",
    seed: int = 0,
    **options: Any,
) -> dict[str, Array]:
    """Merge the updates of several adapters.

    Parameters
    ----------
    method
        `task_arithmetic`, `ties`, `dare_linear`, `dare_ties` or `magnitude_prune`.
    updates
        For each adapter the matrices by the name of the tensor that the merge writes (random masks and the
        order of equals hang on it); an adapter that lacks one has zeros.
    weights, density
        One for each adapter, or one density for all.
    variant, options
        As in the table of methods; `lambda` is `lambda_`.
    """
    count = len(updates)
    shapes = {name: matrix.shape for own in updates for name, matrix in own.items()}
    base = {name: np.zeros(shape) for name, shape in shapes.items()}
    models = [
        {name: np.asarray(own.get(name, zero), np.float64) for name, zero in base.items()} for own in updates
    ]
    # mergekit divides by Σw in TIES, and in nothing else that is here.
    divides = method == "ties" and variant == "mergekit"
    known: dict[str, Any] = {"weight": list(weights or [1.0] * count), "normalize": divides, **options}
    if method != "task_arithmetic":
        known["density"] = [float(density)] * count if isinstance(density, int | float) else list(density)
    if method.startswith("dare"):
        known["seed"] = seed
    if method == "dare_ties":
        known = {**ELECTIONS[variant], **known}
    if method == "magnitude_prune":
        known = {"kept_count": "floor", **known}
    if method == "ties":
        known = {"variant": variant, **known}
    function = {
        "task_arithmetic": task_arithmetic.merge,
        "ties": ties.merge,
        "dare_linear": dare.linear,
        "dare_ties": dare.ties,
        "magnitude_prune": magnitude_prune.merge,
    }[method]
    return {name: estimate.value for name, estimate in function(base, models, **known).items()}
