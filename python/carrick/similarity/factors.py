"""Adapters beside each other: inner products from the factors, signs from blocks of ΔW.

⟨s₁B₁A₁, s₂B₂A₂⟩ = s₁s₂·tr((B₁ᵀB₂)(A₂A₁ᵀ)), two small Gram matrices multiplied entry by entry; all in float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from carrick.adapters.finite import read_finite
from carrick.similarity.sums import PairSums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.module import LoraModule

    Array = NDArray[np.float64]

# Bytes of a block of rows, of factors or of ΔW.
_BLOCK = 16 << 20


class Factors(NamedTuple):
    """The factors of one module as stored: B (out, r), A (r, in), and their scale."""

    b: NDArray[np.generic]
    a: NDArray[np.generic]
    scale: float


def read_factors(adapter: Adapter, path: str, weight: float = 1.0) -> Factors:
    """Read the factors of a module, as matrices; `weight` goes into the scale.

    Raises
    ------
    FormatError
        The file ends too early, or a factor holds NaN or infinities.
    """
    module = adapter.modules[path]
    b = read_finite(adapter, module.b, module.b_name)
    a = read_finite(adapter, module.a, module.a_name)
    return Factors(b.reshape(module.out_features, -1), a.reshape(module.rank, -1), weight * module.scale)


def pair_sums(parts: Sequence[Factors | None], module: LoraModule, *, signs: bool) -> PairSums:
    """Take the sums of one module over all pairs of adapters.

    Parameters
    ----------
    parts
        The factors of each adapter; None where it does not have the module: its ΔW is zero there.
    module
        The module in one of them.
    signs
        Count signs as well, from blocks of the dense ΔW in float32 (float64 where factors are).
    """
    held = [place for place, part in enumerate(parts) if part is not None]
    present = [part for part in parts if part is not None]
    products = _inner_products(present)
    full = [[0.0] * len(parts) for _ in parts]
    for i, row in zip(held, products, strict=True):
        for j, product in zip(held, row, strict=True):
            full[i][j] = float(product)
    elements = module.out_features * module.in_features
    if not signs:
        return PairSums(elements, full)
    shared, conflicts = _count_signs(present, module.in_features)
    empty = np.zeros((2, len(parts), len(parts)), np.int64)
    empty[np.ix_([0, 1], held, held)] = [shared, conflicts]
    return PairSums(elements, full, empty[0].tolist(), empty[1].tolist())


def vector_sums(vectors: Sequence[Array | None], elements: int, *, signs: bool) -> PairSums:
    """Take the sums of one vector that each adapter has, or None where it is zero."""
    dense = np.stack([np.zeros(elements) if v is None else v for v in vectors])
    products = (dense @ dense.T).tolist()
    if not signs:
        return PairSums(elements, products)
    shared, conflicts = sign_counts(dense)
    return PairSums(elements, products, shared.tolist(), conflicts.tolist())


def _inner_products(parts: Sequence[Factors]) -> Array:
    """All ⟨ΔWᵢ, ΔWⱼ⟩ from the Gram matrices of all B side by side and of all A below each other."""
    starts = np.cumsum([0, *(part.b.shape[1] for part in parts[:-1])])
    left = _gram([part.b for part in parts])
    right = _gram([part.a.T for part in parts])
    blocks = np.add.reduceat(np.add.reduceat(left * right, starts, axis=0), starts, axis=1)
    scales = np.array([part.scale for part in parts])
    found: Array = blocks * scales[:, None] * scales
    return found


def _gram(parts: Sequence[NDArray[np.generic]]) -> Array:
    """XᵀX of the matrices side by side, which are converted a block of rows at a time."""
    rank = sum(part.shape[1] for part in parts)
    total = np.zeros((rank, rank))
    step = max(1, _BLOCK // (8 * rank))
    for start in range(0, parts[0].shape[0], step):
        block = np.hstack([part[start : start + step].astype(np.float64) for part in parts])
        total += block.T @ block
    return total


def _count_signs(parts: Sequence[Factors], columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    doubles = any(array.dtype == np.float64 for part in parts for array in (part.a, part.b))
    dtype = np.dtype(np.float64 if doubles else np.float32)
    lefts = [(part.b.astype(dtype) * np.sign(part.scale)).astype(dtype) for part in parts]
    rights = [part.a.astype(dtype) for part in parts]
    shared = np.zeros((len(parts), len(parts)), np.int64)
    conflicts = np.zeros_like(shared)
    step = max(1, _BLOCK // (dtype.itemsize * columns))
    for start in range(0, lefts[0].shape[0], step):
        blocks = (left[start : start + step] @ right for left, right in zip(lefts, rights, strict=True))
        both, differ = sign_counts(np.stack([np.sign(block).astype(np.int8).ravel() for block in blocks]))
        shared += both
        conflicts += differ
    return shared, conflicts


def sign_counts(rows: NDArray[np.generic]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Entries where neither of two rows is zero, and those of them with different signs."""
    signs = np.sign(rows).astype(np.int8)
    shared = np.zeros((len(signs), len(signs)), np.int64)
    conflicts = np.zeros_like(shared)
    for i in range(len(signs)):
        for j in range(i + 1, len(signs)):
            product = signs[i] * signs[j]
            shared[i, j] = shared[j, i] = np.count_nonzero(product)
            conflicts[i, j] = conflicts[j, i] = np.count_nonzero(product < 0)
    return shared, conflicts
