"""What a merge on a device gives for each module."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """How a module was decomposed.

    Attributes
    ----------
    rank
        Rank of the result; 0 for a module that merges to zero, which is written as one zero rank.
    sigma
        Singular values, descending, those below the cut included; of dense updates those that are kept; empty where
        nothing was decomposed.
    min_gap
        The smallest (σⱼ − σⱼ₊₁)/σⱼ among those kept; where it is near 0 the merge is not unique. 1 below two.
    route
        ``gram``, ``householder``, ``dense``, ``randomized`` or ``none``.
    error
        Relative Frobenius error of a truncation; 0 where only numerical zeros were cut.
    """

    rank: int
    sigma: tuple[float, ...]
    min_gap: float
    route: str
    error: float = 0.0


class Merged(NamedTuple):
    """One merged module: ΔW = `b` @ `a`."""

    path: str
    a: torch.Tensor
    b: torch.Tensor
    diagnostics: Diagnostics


def smallest_gap(sigma: list[float], rank: int) -> float:
    """Return the smallest relative gap of the first `rank` singular values.

    Examples
    --------
    >>> smallest_gap([4.0, 2.0, 1.5, 0.0], 3)
    0.25
    """
    kept = sigma[:rank]
    return min(((high - low) / high for high, low in pairwise(kept)), default=1.0)


def tail_error(sigma: list[float], rank: int, numerical_rank: int) -> float:
    """Return the relative Frobenius error of keeping `rank` of the singular values that are not numerical zeros.

    Examples
    --------
    >>> tail_error([4.0, 3.0, 1e-17], 1, 2)
    0.6
    """
    if rank >= numerical_rank:
        return 0.0
    # Sums relative to the largest: squares of float64 would overflow early.
    squares = [(value / sigma[0]) ** 2 for value in sigma[:numerical_rank]]
    return float((sum(squares[rank:]) / sum(squares)) ** 0.5)
