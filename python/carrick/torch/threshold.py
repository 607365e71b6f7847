"""Trims by magnitude with exact counts, over one tensor or all of them.

A magnitude is ranked by its bits: of numbers that are not negative, they order as integers. The k-th largest is found
digit by digit, each of 16 bits counted in a pass over all entries, which need not be held together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carrick.torch.options import Options

_DIGIT = 16
_BINS = 1 << _DIGIT


def magnitude_keys(x: torch.Tensor) -> torch.Tensor:
    """Return integers that order as |x|: the bits without the sign.

    Examples
    --------
    >>> magnitude_keys(torch.tensor([-1.0, 0.5])).tolist() == [0x3F800000, 0x3F000000]
    True
    """
    kind = torch.int32 if x.dtype == torch.float32 else torch.int64
    return x.contiguous().view(kind) & torch.iinfo(kind).max


def kept_count(entries: int, density: float, rule: str) -> int:
    """Return how many of the entries a trim keeps.

    Examples
    --------
    >>> [kept_count(10, 0.25, rule) for rule in ("at_least_one", "floor", "floor_plus_one")]
    [2, 2, 3]
    """
    if density <= 0 or entries == 0:
        return 0
    if density >= 1:
        return entries
    whole = int(density * entries)
    count = {"at_least_one": max(1, whole), "floor": whole, "floor_plus_one": whole + 1}[rule]
    return min(count, entries)


@dataclass(slots=True)
class Cutoff:
    """The smallest key that stays, and how many entries of just that key do; all where `equals` is None."""

    key: int
    equals: int | None


class _Search:
    """The search for the k-th largest key of one adapter."""

    def __init__(self, rank: int, entries: int) -> None:
        self.rank = rank
        self.is_open = 0 < rank < entries
        self.remaining = rank
        self.prefix = 0
        self.counts: torch.Tensor | None = None

    def count(self, x: torch.Tensor, shift: int) -> torch.Tensor:
        """How often each digit occurs behind the prefix."""
        keys = magnitude_keys(x).reshape(-1)
        fits = (keys >> shift >> _DIGIT) == self.prefix
        # What has another prefix falls into a bin behind the others.
        digits = torch.where(fits, (keys >> shift) & (_BINS - 1), _BINS)
        return torch.bincount(digits, minlength=_BINS + 1)[:_BINS]

    def add(self, counts: torch.Tensor) -> None:
        self.counts = counts if self.counts is None else self.counts + counts

    def narrow(self) -> None:
        """Chooses the digit in which the k-th largest lies."""
        if self.counts is None:
            return
        from_top = self.counts.flip(0).cumsum(0)
        place = int(torch.searchsorted(from_top, torch.tensor(self.remaining, device=from_top.device)))
        if place > 0:
            self.remaining -= int(from_top[place - 1])
        self.prefix = (self.prefix << _DIGIT) | (_BINS - 1 - place)
        self.counts = None

    def cutoff(self, highest: int, *, with_equals: bool) -> Cutoff:
        if self.rank == 0:
            return Cutoff(highest, 0)
        if not self.is_open:
            return Cutoff(0, None)
        return Cutoff(self.prefix, None if with_equals else self.remaining)


Count = Callable[[Sequence[torch.Tensor]], list[torch.Tensor]]


def find_cutoffs(
    each: Callable[[Count], Iterator[list[torch.Tensor]]], entries: int, options: Options
) -> list[Cutoff]:
    """Return what each adapter's trim keeps.

    Parameters
    ----------
    each
        Applies a function to all modules, given the tensors of all adapters in one; called once for each digit.
    entries
        Entries of each adapter in all modules.
    options
        The densities and the choices of the trim.

    Examples
    --------
    >>> from carrick.torch import read_options
    >>> options = read_options("knots_ties", 1, density=0.5, variant="paper")
    >>> module = [torch.tensor([1.0, -4.0, 4.0, 2.0])]
    >>> find_cutoffs(lambda count: iter([count(module)]), 4, options)
    [Cutoff(key=1082130432, equals=2)]
    """
    bits = 32 if options.precision == "float32" else 64
    searches = [
        _Search(kept_count(entries, density, options.kept_count), entries) for density in options.density
    ]
    searching = [place for place, search in enumerate(searches) if search.is_open]
    for shift in range(bits - _DIGIT, -1, -_DIGIT) if searching else ():

        def count(tensors: Sequence[torch.Tensor], shift: int = shift) -> list[torch.Tensor]:
            return [searches[place].count(tensors[place], shift) for place in searching]

        for counts in each(count):
            for place, found in zip(searching, counts, strict=True):
                searches[place].add(found)
        for search in searches:
            search.narrow()
    highest = (1 << (bits - 1)) - 1
    return [search.cutoff(highest, with_equals=options.at_threshold == "all") for search in searches]


def count_equals(x: torch.Tensor, cutoff: Cutoff) -> int:
    """Say how many entries lie just at a cutoff; 0 where all of them stay anyway.

    Examples
    --------
    >>> count_equals(torch.tensor([1.0, -1.0, 2.0]), Cutoff(key=0x3F800000, equals=1))
    2
    """
    return 0 if cutoff.equals is None else int((magnitude_keys(x) == cutoff.key).sum())


def shares(whole: Sequence[Cutoff], equals: Iterable[Sequence[int]]) -> Iterator[list[Cutoff]]:
    """Deal what stays just at the cutoffs of a whole model out to its modules: the first of them get it.

    Parameters
    ----------
    whole
        The cutoff of each adapter.
    equals
        For each module, in order, how many entries of each adapter lie just there.

    Examples
    --------
    >>> [one[0].equals for one in shares([Cutoff(key=7, equals=3)], [[2], [2], [2]])]
    [2, 1, 0]
    """
    left = [cutoff.equals for cutoff in whole]
    for found in equals:
        dealt = [None if rest is None else min(rest, here) for rest, here in zip(left, found, strict=True)]
        left = [None if rest is None else rest - (own or 0) for rest, own in zip(left, dealt, strict=True)]
        yield [Cutoff(cutoff.key, own) for cutoff, own in zip(whole, dealt, strict=True)]


def keep(cutoff: Cutoff, x: torch.Tensor) -> torch.Tensor:
    """Return a tensor with the entries that do not stay set to zero.

    Examples
    --------
    >>> keep(Cutoff(key=0x3F800000, equals=1), torch.tensor([0.5, -1.0, 1.0, 2.0]))
    tensor([ 0., -1.,  0.,  2.])
    """
    keys = magnitude_keys(x)
    if cutoff.equals is None:
        return torch.where(keys >= cutoff.key, x, 0)
    kept = keys > cutoff.key
    if cutoff.equals > 0:
        equal = keys == cutoff.key
        kept |= equal & (equal.reshape(-1).cumsum(0).reshape(x.shape) <= cutoff.equals)
    return torch.where(kept, x, 0)
