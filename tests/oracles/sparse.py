"""A task vector after its entries have been dropped and the rest rescaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .dtypes import Array, working

L1_FLOOR = 1e-7


@dataclass(frozen=True)
class Sparse:
    """`decided`: the vector in working precision, which votes; `value`: in float64; `nan`: where δ is NaN."""

    decided: Array
    value: Array
    nan: Array


def task_vector(model: Array, base: Array, precision: np.dtype[np.floating]) -> Array:
    """δ = x - base, rounded once to the working precision."""
    with np.errstate(all="ignore"):
        return model.astype(precision) - base.astype(precision)


def task_vectors(base: dict[str, Array], models: list[dict[str, Array]]) -> list[dict[str, Array]]:
    """δ of every model and tensor, each tensor in the precision that its own inputs ask for."""
    precision = {name: working(b, *(model[name] for model in models)) for name, b in base.items()}
    return [
        {name: task_vector(model[name], b, precision[name]) for name, b in base.items()} for model in models
    ]


def l1_ratio(delta: Array, mask: Array) -> float:
    """‖δ‖₁ / ‖δ·m‖₁, in float64; 1 where either norm is next to nothing."""
    with np.errstate(all="ignore"):
        whole = float(np.abs(delta.astype(np.float64)).sum())
        kept = float(np.abs(np.where(mask, delta, 0).astype(np.float64)).sum())
        return 1.0 if whole < L1_FLOOR or kept < L1_FLOOR else whole / kept


def sparsify(delta: Array, mask: Array, probability: float | Array = 1.0, rescale: str = "false") -> Sparse:
    """Drop what the mask drops and rescale the rest.

    `rescale`: `false`, `probability` (each kept entry divided by its own keep probability) or `l1`.
    """
    if rescale == "l1":
        factor: Array = np.asarray(l1_ratio(delta, mask))
    elif rescale == "probability":
        with np.errstate(divide="ignore"):
            factor = 1 / np.asarray(probability, np.float64)
    else:
        factor = np.asarray(1.0)
    with np.errstate(all="ignore"):
        decided = np.where(mask, delta * factor.astype(delta.dtype), delta.dtype.type(0))
        value = np.where(mask, delta.astype(np.float64) * factor, 0.0)
    return Sparse(decided, value, np.isnan(delta))
