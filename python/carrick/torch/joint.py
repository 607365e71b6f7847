"""Joint SVDs of low-rank modules: [s₁B₁A₁ | s₂B₂A₂ | …] = U·Σ·Vᵀ from the factors alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

from carrick.errors import CarrickError
from carrick.torch.device import exact_arithmetic
from carrick.torch.modules import refuse_special
from carrick.torch.results import smallest_gap
from carrick.torch.small import Cut, Small, decompose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch.modules import Term

_FLOAT32_AMPLIFICATION = 16.0
"""Factors whose product is smaller than they are by more than this for each rank (squared) cancel each other: they are
multiplied in float64. Factors of independent columns stay near 1."""


@dataclass(frozen=True, slots=True)
class Joint:
    """A joint SVD as small matrices beside the factors.

    With columns, the basis is U = Σᵢ Bᵢ·Pᵢ (out × k) and the coordinates of adapter i are Σ·Vᵢᵀ = Qᵢ·Aᵢ (k × in), so
    that sᵢ·Bᵢ·Aᵢ = U·(Qᵢ·Aᵢ). With rows, the basis is Vᵀ = Σᵢ Pᵢᵀ·Aᵢ (k × in) and the coordinates are Uᵢ·Σ = Bᵢ·Qᵢᵀ.

    Attributes
    ----------
    p, q
        Pᵢ (rᵢ × k) and Qᵢ (k × rᵢ) of each adapter; None where it does not have the module.
    sigma
        All singular values, descending.
    rank
        k, those above the cut.
    min_gap
        The smallest relative gap between two that were kept.
    route
        ``gram`` or ``householder``.
    """

    direction: Literal["columns", "rows"]
    p: tuple[torch.Tensor | None, ...]
    q: tuple[torch.Tensor | None, ...]
    sigma: tuple[float, ...]
    rank: int
    min_gap: float
    route: str
    product: torch.dtype
    result: torch.dtype

    def basis(self, terms: Sequence[Term | None]) -> torch.Tensor:
        """Return U (out × k), or Vᵀ (k × in) with rows."""
        total: torch.Tensor | None = None
        for term, p in zip(terms, self.p, strict=True):
            if term is None or p is None:
                continue
            part = (
                self._wide(term.b) @ self._wide(p)
                if self.direction == "columns"
                else self._wide(p).T @ self._wide(term.a)
            )
            total = part if total is None else total + part
        if total is None:
            raise CarrickError("no adapter has this module; leave it out")
        return total.to(self.result)

    def coordinates(self, terms: Sequence[Term | None]) -> list[torch.Tensor]:
        """Return Σ·Vᵢᵀ (k × in) of each adapter, or Uᵢ·Σ (out × k) with rows; zeros where there is no term."""
        found: list[torch.Tensor | None] = []
        for term, q in zip(terms, self.q, strict=True):
            if term is None or q is None:
                found.append(None)
            elif self.direction == "columns":
                found.append((self._wide(q) @ self._wide(term.a)).to(self.result))
            else:
                found.append((self._wide(term.b) @ self._wide(q).T).to(self.result))
        like = next(x for x in found if x is not None)
        return [torch.zeros_like(like) if x is None else x for x in found]

    def _wide(self, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.product)


def joint_svd(
    batch: Sequence[Sequence[Term | None]],
    *,
    direction: Literal["columns", "rows"] = "columns",
    tolerance: float = 1e-6,
    absolute_tolerance: float | None = None,
    precision: Literal["float32", "float64"] = "float32",
    paths: Sequence[str] | None = None,
) -> list[Joint]:
    """Decompose modules of equal shapes and ranks together, on the device where their factors are.

    Small matrices are float64 throughout: a Gram matrix of each factor and one symmetric eigenproblem of the size
    R = Σ rᵢ; modules where that cannot tell a small singular value from none are done again by Householder QR and
    an SVD.

    Parameters
    ----------
    batch
        The terms of each module, one for each adapter; None where an adapter does not have the module.
    direction
        ``columns``: side by side, a shared left basis. ``rows``: on top of each other, a shared right basis.
    tolerance
        Singular values up to this fraction of the largest count as zero.
    absolute_tolerance
        Singular values up to this value count as zero instead.
    precision
        Of the wide products; ``float64`` takes the Householder route always.
    paths
        Names of the modules, for messages.

    Returns
    -------
    A `Joint` for each module. The column sums of U (row sums of Vᵀ) are not negative.

    Raises
    ------
    CarrickError
        NaN or infinity in a factor.

    Examples
    --------
    >>> import torch
    >>> from carrick.torch import Term, joint_svd
    >>> a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0], [0.0]])
    >>> joint = joint_svd([[Term(a, b, 2.0)]])[0]
    >>> joint.rank, round(joint.sigma[0], 6)
    (1, 10.0)
    >>> joint.coordinates([Term(a, b, 2.0)])[0].round(decimals=4)
    tensor([[6., 8.]])
    """
    if not batch:
        return []
    present = [place for place, term in enumerate(batch[0]) if term is not None]
    if not present:
        raise CarrickError(f"{_path(paths, 0)}: no adapter has this module; leave it out")
    first = batch[0][present[0]]
    assert first is not None
    with exact_arithmetic(first.a.device):
        left, right = _stack(batch, present, direction)
        _refuse_infinite(left, right, batch, paths)
        cut = Cut(tolerance, absolute_tolerance)
        results = decompose(left, right, cut, always_householder=precision == "float64")
        ranks = [block.shape[1] for block in right]
        return [
            _joint(small, terms, present, ranks=ranks, direction=direction, precision=precision)
            for small, terms in zip(results, batch, strict=True)
        ]


def _stack(
    batch: Sequence[Sequence[Term | None]], present: Sequence[int], direction: str
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """[s₁B₁ s₂B₂ …] and the Aᵢ of a batch, in float64; with rows, the same of the transposed modules."""
    left, right = [], []
    for place in present:
        terms = [term for terms in batch if (term := terms[place]) is not None]
        a = torch.stack([term.a.to(torch.float64) for term in terms])
        b = torch.stack([term.b.to(torch.float64) for term in terms])
        scales = torch.tensor([term.scale for term in terms], dtype=torch.float64, device=a.device)
        if direction == "rows":
            a, b = b.mT, a.mT
        left.append(b * scales[:, None, None])
        right.append(a)
    return torch.cat(left, dim=2), right


def _refuse_infinite(
    left: torch.Tensor,
    right: Sequence[torch.Tensor],
    batch: Sequence[Sequence[Term | None]],
    paths: Sequence[str] | None,
) -> None:
    """Raise an error that names the first factor with a NaN or an infinity."""
    if all(bool(torch.isfinite(x).all()) for x in (left, *right)):
        return
    for number, terms in enumerate(batch):
        refuse_special(terms, _path(paths, number))
    raise CarrickError(f"{_path(paths, 0)}: a factor times its scale is not finite; look at alpha and r")


def _path(paths: Sequence[str] | None, number: int) -> str:
    return paths[number] if paths is not None else f"module {number}"


def _joint(
    small: Small,
    terms: Sequence[Term | None],
    present: Sequence[int],
    *,
    ranks: list[int],
    direction: Literal["columns", "rows"],
    precision: str,
) -> Joint:
    """Cut the small matrices of one module into those of its adapters."""
    p: list[torch.Tensor | None] = [None] * len(terms)
    q: list[torch.Tensor | None] = [None] * len(terms)
    cut_p, cut_q = torch.split(small.p, ranks, 0), torch.split(small.q, ranks, 1)
    for place, block_p, block_q in zip(present, cut_p, cut_q, strict=True):
        term = terms[place]
        if term is not None:
            p[place], q[place] = block_p * term.scale, block_q
    exact = precision == "float64"
    wide = exact or small.amplification > _FLOAT32_AMPLIFICATION * sum(ranks)
    return Joint(
        direction=direction,
        p=tuple(p),
        q=tuple(q),
        sigma=tuple(small.sigma),
        rank=small.rank,
        min_gap=smallest_gap(small.sigma, small.rank),
        route=small.route,
        product=torch.float64 if wide else torch.float32,
        result=torch.float64 if exact else torch.float32,
    )
