"""Best approximations of a given rank: of a sum of low-rank terms, or of dense matrices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from carrick.errors import CarrickError, ConfigError
from carrick.torch.device import exact_arithmetic
from carrick.torch.joint import Joint, joint_svd
from carrick.torch.modules import Term
from carrick.torch.results import Diagnostics, Merged, smallest_gap, tail_error
from carrick.torch.subspace import Leading, leading, width_of

if TYPE_CHECKING:
    from collections.abc import Sequence

_GRAM_LIMIT = 1e-5
"""Singular values of a dense matrix below this fraction of the largest are not taken from its Gram matrix."""

_GRAM_NOISE = 1e-7
"""Below this fraction, what a Gram matrix says is noise."""

_SAFE = 20
"""Powers of two that a norm may lie from 1 without squares of float32 leaving their range."""


def truncated(
    terms: Sequence[Term | None],
    rank: int | None = None,
    *,
    tolerance: float = 1e-6,
    absolute_tolerance: float | None = None,
    precision: Literal["float32", "float64"] = "float32",
    path: str = "",
) -> Merged:
    """Approximate Σ sᵢ·Bᵢ·Aᵢ best by a product of the given rank, from the factors alone.

    Parameters
    ----------
    terms
        What is summed; None counts as zero.
    rank
        At most this many singular values; all that are not zero where absent.
    tolerance, absolute_tolerance, precision
        As in `joint_svd`.
    path
        The module's name.

    Returns
    -------
    B = U·Σ and A = Vᵀ, as PEFT divides them, with the error made; one zero rank where the sum is zero.

    Examples
    --------
    >>> import torch
    >>> from carrick.torch import Term, truncated
    >>> one = Term(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0], [0.0]]))
    >>> two = Term(torch.tensor([[0.0, 4.0]]), torch.tensor([[0.0], [1.0]]))
    >>> best = truncated([one, two], rank=1)
    >>> best.b @ best.a
    tensor([[0., 0.],
            [0., 4.]])
    >>> best.diagnostics.error
    0.6
    """
    return truncated_batch(
        [terms],
        rank,
        tolerance=tolerance,
        absolute_tolerance=absolute_tolerance,
        precision=precision,
        paths=[path],
    )[0]


def truncated_batch(
    batch: Sequence[Sequence[Term | None]],
    rank: int | None,
    *,
    tolerance: float,
    absolute_tolerance: float | None,
    precision: Literal["float32", "float64"],
    paths: Sequence[str],
) -> list[Merged]:
    """Do what `truncated` does for modules of equal shapes and ranks together."""
    if rank is not None and rank < 1:
        raise ConfigError(f"`rank` is {rank}; it is a whole number from 1 on")
    stacked = [_stacked(terms, path) for terms, path in zip(batch, paths, strict=True)]
    joints = joint_svd(
        [[term] for term in stacked],
        tolerance=tolerance,
        absolute_tolerance=absolute_tolerance,
        precision=precision,
        paths=[path or "the sum" for path in paths],
    )
    return [_cut(*each, rank) for each in zip(paths, stacked, joints, strict=True)]


def _cut(path: str, stacked: Term, joint: Joint, rank: int | None) -> Merged:
    """Return the first singular values of one module as B = U·Σ and A = Vᵀ."""
    kept = joint.rank if rank is None else min(rank, joint.rank)
    error = tail_error(list(joint.sigma), kept, joint.rank)
    gap = smallest_gap(list(joint.sigma), kept)
    diagnostics = Diagnostics(kept, joint.sigma, gap, joint.route, error)
    with exact_arithmetic(stacked.a.device):
        u, coordinates = joint.basis([stacked]), joint.coordinates([stacked])[0]
        if kept == 0:
            return Merged(path, *zero_rank(coordinates.shape[1], u.shape[0], u), diagnostics)
        sigma = torch.tensor(joint.sigma[:kept], dtype=u.dtype, device=u.device)
        return Merged(path, coordinates[:kept] / sigma[:, None], u[:, :kept] * sigma, diagnostics)


def zero_rank(inner: int, outer: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A and B of one zero rank, which is how a module that merges to zero is written."""
    return like.new_zeros((1, inner)), like.new_zeros((outer, 1))


def _stacked(terms: Sequence[Term | None], path: str) -> Term:
    """All terms as one: B = [s₁B₁ s₂B₂ …], A = [A₁; A₂; …], in float64."""
    present = [term for term in terms if term is not None]
    if not present:
        raise CarrickError(f"{path or 'the sum'}: no adapter has this module; leave it out")
    a = torch.cat([term.a.to(torch.float64) for term in present])
    b = torch.cat([term.b.to(torch.float64) * term.scale for term in present], dim=1)
    return Term(a, b)


def truncated_dense(
    matrices: torch.Tensor, rank: int, *, precision: Literal["float32", "float64"] = "float32"
) -> list[Merged]:
    """Approximate dense matrices best by products of the given rank.

    By the eigenvectors of the Gram matrix of the smaller side, in float64; where the singular values that are kept
    reach below what a Gram matrix resolves, by an SVD.

    Parameters
    ----------
    matrices
        m × out × in, or one matrix.
    rank
        At most this many singular values each.
    precision
        Of the result.

    Returns
    -------
    B = U·Σ and A = Vᵀ of each, with the error made.

    Examples
    --------
    >>> import torch
    >>> from carrick.torch import truncated_dense
    >>> best = truncated_dense(torch.diag(torch.tensor([4.0, 3.0, 0.0])), 1)[0]
    >>> (best.b @ best.a).diagonal()
    tensor([4., 0., 0.])
    >>> best.diagnostics.rank, best.diagnostics.error
    (1, 0.6)
    """
    if rank < 1:
        raise ConfigError(f"`rank` is {rank}; it is a whole number from 1 on")
    with exact_arithmetic(matrices.device):
        batch = matrices[None] if matrices.ndim == 2 else matrices
        if batch.ndim != 3:
            raise CarrickError(f"matrices have the shape {tuple(matrices.shape)}; give m × out × in")
        if not bool(torch.isfinite(batch).all()):
            raise CarrickError("a matrix holds NaN or infinity; only finite ones have singular values")
        result = torch.float64 if precision == "float64" else torch.float32
        return [_dense(matrix.to(torch.float64), rank, result) for matrix in batch]


def _dense(matrix: torch.Tensor, rank: int, result: torch.dtype) -> Merged:
    """One dense matrix; a wide one as it is, a tall one transposed."""
    wide = matrix.shape[0] <= matrix.shape[1]
    m = matrix if wide else matrix.mT
    values, vectors = torch.linalg.eigh(m @ m.mT)
    sigma, u = values.flip(0).clamp(min=0).sqrt(), vectors.flip(1)
    rank = min(rank, sigma.shape[0])
    route = "gram"
    if float(sigma[rank - 1]) < _GRAM_LIMIT * float(sigma[0]):
        u, sigma, _vt = torch.linalg.svd(m, full_matrices=False)
        route = "dense"
    listed: list[float] = sigma.tolist()
    floor = listed[0] * (
        _GRAM_NOISE if route == "gram" else torch.finfo(torch.float64).eps * max(matrix.shape)
    )
    numerical = sum(value > floor for value in listed)
    kept = min(rank, numerical)
    diagnostics = Diagnostics(
        kept, tuple(listed), smallest_gap(listed, kept), route, tail_error(listed, kept, numerical)
    )
    if kept == 0:
        outer, inner = matrix.shape
        return Merged("", *zero_rank(inner, outer, matrix.to(result)), diagnostics)
    u = u[:, :kept]
    scaled = (u.mT @ m) / sigma[:kept, None]
    a, b = (scaled, u * sigma[:kept]) if wide else (u.mT, scaled.mT * sigma[:kept])
    return Merged("", a.to(result).contiguous(), b.to(result).contiguous(), diagnostics)


def approximated(matrices: torch.Tensor, rank: int, paths: Sequence[str]) -> list[Merged]:
    """Approximate dense matrices well by products of the given rank; their own memory is used up.

    Matrices in float32, where no more than a third of all directions are wanted: by subspace iteration, whose error is
    at most 1.01 times the best. Others by their whole spectra.

    Parameters
    ----------
    matrices
        m × out × in.
    rank
        At most this many directions each.
    paths
        The modules' names.

    Returns
    -------
    B = U·Σ and A = Vᵀ of each, with the error made and the singular values that are kept.

    Raises
    ------
    CarrickError
        What is merged is not finite.

    Examples
    --------
    >>> import torch
    >>> matrix = torch.zeros(1, 60, 90)
    >>> matrix[0, 0, 0], matrix[0, 1, 1] = 4.0, 3.0
    >>> best = approximated(matrix, 1, ["q_proj"])[0]
    >>> best.diagnostics.route, round(best.diagnostics.error, 6)
    ('randomized', 0.6)
    """
    norms = [float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) for matrix in matrices]
    for norm, path in zip(norms, paths, strict=True):
        if not math.isfinite(norm):
            raise CarrickError(
                f"{path}: what is merged holds infinities or NaN, which have no decomposition; give smaller weights"
            )
    if matrices.dtype == torch.float64 or width_of(min(matrices.shape[1:]), rank) is None:
        precision: Literal["float32", "float64"] = "float64" if matrices.dtype == torch.float64 else "float32"
        best = (truncated_dense(matrix, rank, precision=precision)[0] for matrix in matrices)
        return [_renamed(one, path) for one, path in zip(best, paths, strict=True)]
    scales = [_scale(norm) for norm in norms]
    for matrix, scale in zip(matrices, scales, strict=True):
        matrix.mul_(1 / scale)
    found = leading(matrices, rank)
    return [_measured(*each) for each in zip(paths, matrices, found, scales, norms, strict=True)]


def _renamed(found: Merged, path: str) -> Merged:
    """Return a result under its path, with the singular values that it keeps."""
    diagnostics = found.diagnostics
    kept = diagnostics.sigma[: diagnostics.rank]
    return found._replace(path=path, diagnostics=replace(diagnostics, sigma=kept))


def _scale(norm: float) -> float:
    """Return a power of two by which a matrix is divided where squares of its entries could leave float32's range."""
    exponent = round(math.log2(norm)) if norm > 0 else 0
    return 2.0**exponent if abs(exponent) > _SAFE else 1.0


def _measured(path: str, matrix: torch.Tensor, found: Leading, scale: float, norm: float) -> Merged:
    """Return the leading part of a matrix as factors; what they leave of the matrix takes its place."""
    kept = len(found.sigma)
    if kept == 0:
        outer, inner = matrix.shape
        nothing = Diagnostics(0, (), 1.0, "randomized")
        return Merged(path, *zero_rank(inner, outer, matrix), nothing)
    left = torch.linalg.vector_norm(matrix.addmm_(found.b, found.a, alpha=-1), dtype=torch.float64)
    b = found.b * scale
    if not bool(torch.isfinite(b).all()):
        raise CarrickError(f"{path}: its low-rank factors are too large for float32; give smaller weights")
    sigma = [value * scale for value in found.sigma]
    error = float(left) * scale / norm
    diagnostics = Diagnostics(kept, tuple(sigma), smallest_gap(sigma, kept), "randomized", error)
    return Merged(path, found.a.contiguous(), b, diagnostics)
