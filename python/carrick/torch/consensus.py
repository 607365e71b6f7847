"""What is left of the adapters' coordinates becomes one: a sum, or an election of signs and what agrees."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch.options import Options

_NO_WEIGHT = 1e-8
"""A sum of weights nearer to zero than this does not divide."""


def ballots(xs: Sequence[torch.Tensor], weights: Sequence[float], vote: str) -> list[torch.Tensor]:
    """Return what each adapter brings to the vote and, but for ``frequency``, to the aggregate."""
    return [x * weight for x, weight in zip(xs, weights, strict=True)] if vote == "weighted" else list(xs)


def votes(xs: Sequence[torch.Tensor], vote: str) -> torch.Tensor:
    """Return the sums of the ballots, in the order of the adapters."""
    total = torch.zeros_like(xs[0])
    for x in xs:
        total += torch.sign(x) if vote == "frequency" else x
    return total


def zero_sign(zero_vote: str, aggregate: str, majority: int) -> float:
    """Return the sign where a vote is exactly zero.

    Examples
    --------
    >>> zero_sign("majority", "mean", 0), zero_sign("majority", "max", 0), zero_sign("plus", "mean", -3)
    (-1.0, 0.0, 1.0)
    """
    if zero_vote == "plus":
        return 1.0
    if zero_vote == "none":
        return 0.0
    if majority == 0:
        return 0.0 if aggregate == "max" else -1.0
    return 1.0 if majority > 0 else -1.0


def merge(
    xs: Sequence[torch.Tensor], weights: Sequence[float], options: Options, majority: int
) -> torch.Tensor:
    """Merge what was kept of the coordinates of one module.

    Parameters
    ----------
    xs
        A tensor for each adapter; zeros where an entry was dropped.
    weights
        The adapters' weights in this module.
    options
        Method and choices.
    majority
        Elected positive less negative signs of the whole model.

    Examples
    --------
    >>> from carrick.torch import read_options
    >>> options = read_options("knots_ties", 3, density=1)
    >>> merge([torch.tensor([1.0, 4.0]), torch.tensor([3.0, -1.0]), torch.tensor([-2.0, 0.0])],
    ...       [1, 1, 1], options, 0)
    tensor([2., 4.])
    """
    merged = _agreeing(xs, weights, options, majority) if options.elects else _sum(xs, weights, options)
    return merged * options.lambda_ if options.lambda_ != 1 else merged


def _sum(xs: Sequence[torch.Tensor], weights: Sequence[float], options: Options) -> torch.Tensor:
    total = torch.zeros_like(xs[0])
    for x, weight in zip(xs, weights, strict=True):
        total += x * weight
    return total / sum(weights) if options.normalize and abs(sum(weights)) >= _NO_WEIGHT else total


def _agreeing(
    xs: Sequence[torch.Tensor], weights: Sequence[float], options: Options, majority: int
) -> torch.Tensor:
    """Elects signs and combines the entries that carry them."""
    xs = ballots(xs, weights, options.vote)
    tally = votes(xs, options.vote)
    zero = zero_sign(options.zero_vote, options.aggregate, majority)
    signs = torch.where(tally == 0, zero, torch.sign(tally))
    total, divisor = torch.zeros_like(tally), torch.zeros_like(tally)
    for x, weight in zip(xs, weights, strict=True):
        agrees = x * signs > 0
        part = x if options.vote == "weighted" else x * weight
        if options.aggregate == "max":
            part = torch.where(agrees, part, 0)
            total = torch.where(part.abs() > total.abs(), part, total)
            continue
        total += torch.where(agrees, part, 0)
        divisor += agrees.to(divisor.dtype) * (1.0 if options.aggregate == "mean" else weight)
    if options.aggregate == "mean" or (options.aggregate == "weighted_mean" and options.normalize):
        return total / torch.where(divisor == 0, 1.0, divisor)
    return total
