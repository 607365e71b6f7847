"""Best approximations of a given rank: of a sum of low-rank terms, or of dense matrices."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import torch

from carrick.errors import CarrickError
from carrick.torch.device import exact_arithmetic
from carrick.torch.joint import Joint, joint_svd
from carrick.torch.keep import Keep
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
    energy: float | None = None,
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
    energy
        As few as hold this share of Σσ², in place of a rank.
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
        Keep(rank, energy),
        tolerance=tolerance,
        absolute_tolerance=absolute_tolerance,
        precision=precision,
        paths=[path],
    )[0]


def truncated_batch(
    batch: Sequence[Sequence[Term | None]],
    keep: Keep,
    *,
    tolerance: float,
    absolute_tolerance: float | None,
    precision: Literal["float32", "float64"],
    paths: Sequence[str],
) -> list[Merged]:
    """Do what `truncated` does for modules of equal shapes and ranks together."""
    keep.check()
    stacked = [_stacked(terms, path) for terms, path in zip(batch, paths, strict=True)]
    joints = joint_svd(
        [[term] for term in stacked],
        tolerance=tolerance,
        absolute_tolerance=absolute_tolerance,
        precision=precision,
        paths=[path or "the sum" for path in paths],
    )
    return [_cut(*each, keep) for each in zip(paths, stacked, joints, strict=True)]


def _cut(path: str, stacked: Term, joint: Joint, keep: Keep) -> Merged:
    """Return the first singular values of one module as B = U·Σ and A = Vᵀ."""
    kept = min(keep.count(joint.sigma), joint.rank)
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
    matrices: torch.Tensor,
    rank: int | None = None,
    *,
    energy: float | None = None,
    precision: Literal["float32", "float64"] = "float32",
    paths: Sequence[str] | None = None,
) -> list[Merged]:
    """Approximate dense matrices best by products of the given rank.

    By the eigenvectors of the Gram matrix of the smaller side, in float64; where the singular values that are kept
    reach below what a Gram matrix resolves, by an SVD.

    Parameters
    ----------
    matrices
        m × out × in, or one matrix.
    rank
        At most this many singular values each; all that are not rounding where absent.
    energy
        As few as hold this share of each matrix's Σσ², in place of a rank.
    precision
        Of the result: directions that are lost in its rounding are not kept.
    paths
        Names of the matrices, for messages.

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
    keep = Keep(rank, energy).check()
    with exact_arithmetic(matrices.device):
        batch = matrices[None] if matrices.ndim == 2 else matrices
        if batch.ndim != 3:
            raise CarrickError(f"matrices have the shape {tuple(matrices.shape)}; give m × out × in")
        for number, matrix in enumerate(batch):
            if not bool(torch.isfinite(matrix).all()):
                name = "a matrix" if paths is None else f"{paths[number]}: what is merged"
                raise CarrickError(f"{name} holds NaN or infinity; only finite ones have singular values")
        result = torch.float64 if precision == "float64" else torch.float32
        return [_dense(matrix.to(torch.float64), keep, result) for matrix in batch]


def _dense(matrix: torch.Tensor, keep: Keep, result: torch.dtype) -> Merged:
    """One dense matrix; a wide one as it is, a tall one transposed."""
    wide = matrix.shape[0] <= matrix.shape[1]
    m = matrix if wide else matrix.mT
    values, vectors = torch.linalg.eigh(m @ m.mT)
    sigma, u = values.flip(0).clamp(min=0).sqrt(), vectors.flip(1)
    listed: list[float] = sigma.tolist()
    route, noise = "gram", _GRAM_NOISE
    wanted = keep.count(listed)
    if wanted and listed[wanted - 1] < _GRAM_LIMIT * listed[0]:
        u, sigma = torch.linalg.svd(m, full_matrices=False)[:2]
        listed = sigma.tolist()
        route, noise = "dense", torch.finfo(torch.float64).eps * max(matrix.shape)
    floor = listed[0] * max(noise, torch.finfo(result).eps)
    numerical = sum(value > floor for value in listed)
    kept = min(keep.count(listed), numerical)
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


def iterated_rank(small: int, keep: Keep, dtype: torch.dtype) -> int | None:
    """Return the rank that a subspace of dense matrices is iterated for; None where the whole spectrum is taken.

    An energy takes it: a subspace tells singular values that are close together from below, and one direction more or
    less from their sum.

    Examples
    --------
    >>> iterated_rank(4096, Keep(rank=64), torch.float32), iterated_rank(4096, Keep(energy=0.9), torch.float32)
    (64, None)
    """
    if keep.rank is None or dtype != torch.float32 or width_of(small, keep.rank) is None:
        return None
    return keep.rank


def approximated(matrices: torch.Tensor, keep: Keep, paths: Sequence[str]) -> list[Merged]:
    """Approximate dense matrices well by products of low rank; their own memory is used up.

    Matrices in float32, where a rank of no more than a third of all directions is wanted: by subspace iteration, whose
    error is about that of the best. Others, and those of which an energy is wanted, by their whole spectra.

    Parameters
    ----------
    matrices
        m × out × in.
    keep
        How many directions of each.
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
    >>> best = approximated(matrix, Keep(rank=1), ["q_proj"])[0]
    >>> best.diagnostics.route, round(best.diagnostics.error, 6)
    ('randomized', 0.6)
    """
    norms = [float(torch.linalg.vector_norm(matrix, dtype=torch.float64)) for matrix in matrices]
    for norm, path in zip(norms, paths, strict=True):
        if not math.isfinite(norm):
            raise CarrickError(
                f"{path}: what is merged holds infinities or NaN, which have no decomposition; give smaller weights"
            )
    rank = iterated_rank(min(matrices.shape[1:]), keep, matrices.dtype)
    if rank is None:
        precision: Literal["float32", "float64"] = "float64" if matrices.dtype == torch.float64 else "float32"
        best = (
            truncated_dense(matrix, keep.rank, energy=keep.energy, precision=precision)[0]
            for matrix in matrices
        )
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
