"""The small matrices behind a joint SVD, batched, in float64.

Of M = L·blkdiag(R₁, R₂, …), L = [L₁ L₂ …] tall and the Rᵢ wide, both routes find P and Q with U = L·P and
Uᵀ·L = Q, so that M = U·Q·blkdiag(Rᵢ) is the thin SVD. Let Rᵢ·Rᵢᵀ = Fᵢ·Fᵢᵀ and F = blkdiag(Fᵢ); then M has the singular
values and left vectors of L·F = U·Σ·Wᵀ, and P = F·W·Σ⁻¹.

gram: Fᵢ from the eigenvectors of Rᵢ·Rᵢᵀ, W and Σ² from those of Fᵀ·(LᵀL)·F. householder: Fᵢ = Tᵢᵀ of Rᵢᵀ = Qᵢ·Tᵢ,
and an SVD of T_L·F with L = Q_L·T_L; it resolves singular values that a Gram matrix, which squares them, cannot.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEAR = 30.0
"""A singular value within this factor of the cut sends its module to the Householder route."""

_GRAM_RESOLUTION = 3e-7
"""The smallest cut, as a fraction of the largest singular value, that the Gram route can decide."""

_GRAM_TRUST = 5e7
"""The largest amplification·σ₁/σₖ at which the Gram route's error stays below float32's."""

_NOTHING = 64 * torch.finfo(torch.float64).eps
"""A product smaller than its factors by this much is rounding, that is, zero."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where singular values begin to count."""

    relative: float
    absolute: float | None = None

    def at(self, largest: float) -> float:
        """Return the largest value that counts as zero."""
        return self.absolute if self.absolute is not None else self.relative * largest


@dataclass(frozen=True, slots=True)
class Small:
    """The result for one module: P (R × k), Q (k × R), all singular values, the rank.

    `amplification` is ‖L‖²·‖R‖²/σ₁², by which rounding of the factors shows in the product.
    """

    p: torch.Tensor
    q: torch.Tensor
    sigma: list[float]
    rank: int
    route: str
    amplification: float


@dataclass(frozen=True, slots=True)
class _Batch:
    """A batch before its ranks are known. `q_of` is what Uᵀ·L is made of: Q = Σ⁻¹·`q_of`, or Q = `q_of`."""

    f: torch.Tensor
    w: torch.Tensor
    sigma: torch.Tensor
    q: torch.Tensor
    q_needs_inverse: bool
    route: str


def decompose(
    left: torch.Tensor, right: Sequence[torch.Tensor], cut: Cut, *, always_householder: bool
) -> list[Small]:
    """Decompose a batch: `left` m × out × R, `right` m × rᵢ × in each."""
    # Rows of length one on the right: the Gram matrices are then as well conditioned as scaling can make them.
    norms = [torch.linalg.vector_norm(block, dim=2) for block in right]
    norms = [torch.where(norm == 0, torch.ones_like(norm), norm) for norm in norms]
    right = [block / norm[:, :, None] for block, norm in zip(right, norms, strict=True)]
    scale = torch.cat(norms, dim=1)
    left = left * scale[:, None, :]
    gram_left = left.mT @ left
    gram_right = [block @ block.mT for block in right]
    size = torch.diagonal(gram_left, dim1=1, dim2=2).sum(1)
    size = size * torch.stack([_norm(block) for block in gram_right]).amax(0)
    most = min(left.shape[1], sum(min(block.shape[1:]) for block in right))
    sums = left.sum(1)

    if always_householder:
        results: list[Small | None] = [None] * left.shape[0]
    else:
        batch = _gram(gram_left, gram_right)
        results = [
            _trusted(small, cut) for small in _finish(batch, sums, size, cut, most=most, rows=left.shape[1])
        ]
    again = [number for number, small in enumerate(results) if small is None]
    if again:
        some = torch.tensor(again, device=left.device)
        batch = _householder(left[some], [block[some] for block in right])
        redone = _finish(batch, sums[some], size[some], cut, most=most, rows=left.shape[1])
        for number, small in zip(again, redone, strict=True):
            results[number] = small
    return [
        replace(small, p=small.p * scale[number, :, None], q=small.q / scale[number])
        for number, small in enumerate(results)
        if small is not None
    ]


def _norm(gram: torch.Tensor) -> torch.Tensor:
    """Return a bound on the largest eigenvalue, for each matrix of a batch."""
    return gram.abs().sum(2).amax(1)


def _blocks(blocks: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return the block-diagonal matrices of a batch."""
    rows, columns = sum(block.shape[1] for block in blocks), sum(block.shape[2] for block in blocks)
    whole = blocks[0].new_zeros((blocks[0].shape[0], rows, columns))
    row = column = 0
    for block in blocks:
        whole[:, row : row + block.shape[1], column : column + block.shape[2]] = block
        row, column = row + block.shape[1], column + block.shape[2]
    return whole


def _gram(left: torch.Tensor, right: Sequence[torch.Tensor]) -> _Batch:
    """By eigenvectors, from the Gram matrices of both sides."""
    roots = []
    for block in right:
        values, vectors = torch.linalg.eigh(block)
        roots.append(vectors * values.clamp(min=0).sqrt()[:, None, :])
    f = _blocks(roots)
    core = f.mT @ left @ f
    values, vectors = torch.linalg.eigh((core + core.mT) / 2)
    w = vectors.flip(2)
    return _Batch(f, w, values.flip(1).clamp(min=0).sqrt(), w.mT @ f.mT @ left, True, "gram")


def _householder(left: torch.Tensor, right: Sequence[torch.Tensor]) -> _Batch:
    """By QR of both sides and an SVD between them."""
    f = _blocks([torch.linalg.qr(block.mT, mode="r").R.mT for block in right])
    triangle = torch.linalg.qr(left, mode="r").R
    u, sigma, wt = torch.linalg.svd(triangle @ f, full_matrices=False)
    return _Batch(f, wt.mT, sigma, u.mT @ triangle, False, "householder")


def _finish(
    batch: _Batch, sums: torch.Tensor, size: torch.Tensor, cut: Cut, *, most: int, rows: int
) -> list[Small]:
    """Ranks, signs and the cut matrices of a batch."""
    sigmas = batch.sigma.tolist()
    results = []
    for number, (values, product) in enumerate(zip(sigmas, size.tolist(), strict=True)):
        sigma: list[float] = values[:most]
        largest = sigma[0] if sigma else 0.0
        # Below what rounding of the factors leaves of a product that is zero.
        rank = 0
        if largest > _NOTHING * product**0.5:
            rank = sum(value > cut.at(largest) for value in sigma)
        inverse = 1 / batch.sigma[number, :rank]
        p = batch.f[number] @ batch.w[number][:, :rank] * inverse
        q = batch.q[number, :rank]
        if batch.q_needs_inverse:
            q = q * inverse[:, None]
        column_sums = sums[number] @ p
        flips = torch.where(column_sums < -1e-12 * rows**0.5, -1.0, 1.0).to(p.dtype)
        amplification = product / largest**2 if largest > 0 else float("inf")
        results.append(Small(p * flips, q * flips[:, None], sigma, rank, batch.route, amplification))
    return results


def _trusted(small: Small, cut: Cut) -> Small | None:
    """Return the result of the Gram route, or None where it cannot decide."""
    largest = small.sigma[0] if small.sigma else 0.0
    if small.rank == 0 and small.amplification == float("inf"):
        return small
    limit = cut.at(largest)
    near = any(limit / _NEAR < value < limit * _NEAR for value in small.sigma)
    smallest = small.sigma[small.rank - 1] if small.rank else largest
    unsafe = small.amplification * largest / smallest > _GRAM_TRUST
    return None if near or limit < _GRAM_RESOLUTION * largest or unsafe else small
