"""The leading directions of dense matrices by randomised subspace iteration, a batch at a time.

Halko, Martinsson, Tropp 2011, with the core's rule for when to stop: products in float32, what the subspace holds
measured in float64, and more passes until they would gain less than a hundredth of the squared error.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_OVERSAMPLE = 16
"""Directions beyond those that are wanted."""

_PASSES = 14
"""Products with the matrices at the most."""

_GAIN = 0.01
"""What more passes may still gain by estimate, as a fraction of the squared error."""

_NOISE = (1e-6, 2e-7)
"""Changes of a value below this fraction of it, and of the geometric mean of it and the largest, are rounding."""

_RESOLUTION = torch.finfo(torch.float32).eps
"""Directions below this fraction of the largest singular value are lost in float32."""


class Leading(NamedTuple):
    """The leading part of a matrix: its singular values, on `b`; the rows of `a` are orthonormal."""

    sigma: list[float]
    a: torch.Tensor
    b: torch.Tensor


def width_of(small: int, rank: int) -> int | None:
    """Say how many directions to iterate; None where the whole spectrum costs less.

    Examples
    --------
    >>> width_of(4096, 64), width_of(96, 64)
    (80, None)
    """
    width = rank + _OVERSAMPLE
    return width if 3 * width < small else None


def subspace_bytes(outer: int, inner: int, rank: int) -> int:
    """Bytes of working arrays for one matrix: a basis, its image, copies of both in float64."""
    width = rank + _OVERSAMPLE
    return width * (outer + inner) * 24 + width * width * 64


def leading(matrices: torch.Tensor, rank: int) -> list[Leading]:
    """Find the leading parts of matrices.

    Parameters
    ----------
    matrices
        m × out × in, float32; entries within a range where squares do not overflow.
    rank
        Directions of each at the most.

    Examples
    --------
    >>> sizes = torch.cat([torch.tensor([4.0, 2.0]), torch.zeros(58)])
    >>> [round(value, 5) for value in leading(torch.diag(sizes)[None], 3)[0].sigma]
    [4.0, 2.0]
    """
    width = rank + _OVERSAMPLE
    # The same start for every matrix, whatever else is in its batch.
    start = torch.randn((matrices.shape[2], width), generator=torch.Generator().manual_seed(0))
    norms = [float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) ** 2 for matrix in matrices]
    image = matrices @ start.to(matrices.device)
    progress = [_Progress(norm) for norm in norms]
    for turn in range(1, _PASSES):
        # The sides take turns: a basis of the images becomes the next basis.
        is_right = turn % 2 == 0
        basis = torch.linalg.qr(image).Q
        image = (matrices if is_right else matrices.mT) @ basis
        values, t = _ritz(basis, image)
        wanted = values[:, :rank].tolist()
        settled = [one.is_settled(row) for one, row in zip(progress, wanted, strict=True)]
        if is_right and (all(settled) or turn + 2 >= _PASSES):
            break
    return [_cut(*each) for each in zip(basis, image, wanted, t, strict=True)]


def _ritz(basis: torch.Tensor, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Measure the span of bases Z by their images Y = M·Z, in float64.

    Returns the squares of its singular values, the largest first, and T: Y·T are the left vectors times these, Z·T
    the right ones. Z may be orthonormal to float32 only: that it is not quite is taken into account.
    """
    z, y = basis.to(torch.float64), image.to(torch.float64)
    lower = torch.linalg.cholesky(z.mT @ z)
    inner = torch.linalg.solve_triangular(lower, y.mT @ y, upper=False)
    inner = torch.linalg.solve_triangular(lower, inner.mT, upper=False)
    values, vectors = torch.linalg.eigh((inner + inner.mT) / 2)
    t = torch.linalg.solve_triangular(lower.mT, vectors.flip(2), upper=True)
    return values.flip(1).clamp(min=0), t


class _Progress:
    """How the values that are wanted of one matrix grow from pass to pass."""

    def __init__(self, norm2: float) -> None:
        self._norm2 = norm2
        self._values: list[float] = []
        self._gain = 0.0

    def is_settled(self, values: list[float]) -> bool:
        """Whether more passes would gain next to nothing: gains shrink about geometrically."""
        largest = values[0]
        gain = 0.0
        for now, before in zip(values, self._values, strict=False):
            noise = _NOISE[0] * now + _NOISE[1] * (now * largest) ** 0.5
            gain += now - before if now - before > noise else 0.0
        # A first guess until two gains are known.
        ratio = min(max(gain / self._gain, 0.3), 0.95) if self._gain > 0 else 0.8
        left = max(self._norm2 - sum(values), 0.0)
        is_known = bool(self._values)
        self._values, self._gain = values, gain
        return is_known and gain * ratio / (1 - ratio) <= _GAIN * left


def _cut(basis: torch.Tensor, image: torch.Tensor, values: list[float], t: torch.Tensor) -> Leading:
    """Return the factors of one matrix: its basis is one of the right side."""
    kept = sum(value > _RESOLUTION**2 * values[0] for value in values)
    turn = t[:, :kept].to(basis.dtype)
    return Leading([value**0.5 for value in values[:kept]], (basis @ turn).mT, image @ turn)
