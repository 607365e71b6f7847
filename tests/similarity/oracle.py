"""Similarity of dense task vectors, written from the definitions in NumPy float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]


def task_vector(tensor: Array, base: Array, *, wide: bool) -> NDArray[np.float64]:
    """δ = x − base, rounded once to float32 unless an input is float64."""
    real = np.float64 if wide else np.float32
    return (tensor.astype(real) - base.astype(real)).astype(np.float64).ravel()


def of_checkpoints(
    base: Mapping[str, Array], models: Sequence[Mapping[str, Array]], names: Iterable[str]
) -> NDArray[np.float64]:
    """One row for each model: the task vectors of the named tensors one behind the other."""
    rows: list[list[Array]] = [[] for _ in models]
    for name in names:
        wide = any(tensors[name].dtype == np.float64 for tensors in (base, *models))
        for row, model in zip(rows, models, strict=True):
            row.append(task_vector(model[name], base[name], wide=wide))
    return np.stack([np.concatenate(row) for row in rows])


def norms(vectors: Array) -> Array:
    return np.sqrt(np.sum(vectors * vectors, axis=1))


def cosine(vectors: Array) -> Array:
    """Zero wherever one of the two is zero."""
    lengths = norms(vectors)
    safe = np.where(lengths == 0, 1, lengths)
    return (vectors @ vectors.T) / safe[:, None] / safe


def sign_conflicts(vectors: Array) -> Array:
    """Share of different signs among the entries where neither is zero."""
    found = np.zeros((len(vectors), len(vectors)))
    for i, a in enumerate(vectors):
        for j, b in enumerate(vectors):
            shared = (a != 0) & (b != 0)
            if shared.any():
                found[i, j] = np.mean(np.signbit(a[shared]) != np.signbit(b[shared]))
    return found
