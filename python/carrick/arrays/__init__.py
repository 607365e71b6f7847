"""The merge methods on arrays in memory: the same kernels that merge checkpoints, on NumPy arrays and torch tensors.

Arrays are read where they lie, without copies; results have the type and element type of the base or the first array.
"""

from __future__ import annotations

from carrick.arrays.models import linear, model_stock, nuslerp, slerp
from carrick.arrays.steps import disjoint_mean, drop_rescale, elect_sign, trim
from carrick.arrays.task_vectors import (
    breadcrumbs,
    breadcrumbs_ties,
    dare_linear,
    dare_ties,
    della,
    della_linear,
    magnitude_prune,
    task_arithmetic,
    ties,
)

__all__ = [
    "breadcrumbs",
    "breadcrumbs_ties",
    "dare_linear",
    "dare_ties",
    "della",
    "della_linear",
    "disjoint_mean",
    "drop_rescale",
    "elect_sign",
    "linear",
    "magnitude_prune",
    "model_stock",
    "nuslerp",
    "slerp",
    "task_arithmetic",
    "ties",
    "trim",
]
