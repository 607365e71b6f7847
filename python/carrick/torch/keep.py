"""How much of a spectrum is kept: a rank, or a share of the squared norm."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Keep(NamedTuple):
    """At most `rank` directions, or as few as hold the share `energy` of Σσ²; all of them without either."""

    rank: int | None = None
    energy: float | None = None

    def check(self) -> Keep:
        """Return this one, if it can be done.

        Raises
        ------
        ConfigError
            Both, a rank below 1, or an energy that is not above 0 and up to 1.
        """
        if self.rank is not None and self.energy is not None:
            raise ConfigError("`rank` and `energy` both set the rank; remove one of them")
        if self.rank is not None and self.rank < 1:
            raise ConfigError(f"`rank` is {self.rank}; it is a whole number from 1 on")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ConfigError(f"`energy` is {self.energy:g}; it has to be a number above 0, up to 1")
        return self

    def count(self, sigma: Sequence[float]) -> int:
        """Say how many of all singular values, the largest first, are kept.

        Examples
        --------
        >>> [Keep(energy=share).count([4.0, 2.0, 1.0]) for share in (0.76, 0.77, 0.96, 1.0)]
        [1, 2, 3, 3]
        >>> Keep(rank=2).count([4.0, 2.0, 1.0]), Keep().count([4.0, 2.0])
        (2, 2)
        """
        if self.energy is None:
            return len(sigma) if self.rank is None else min(self.rank, len(sigma))
        if not sigma or sigma[0] == 0:
            return 0
        # From the smallest up, so that the small ones count; relative to the largest, whose square could overflow.
        rest = list(accumulate((value / sigma[0]) ** 2 for value in reversed(sigma)))
        allowed = (1 - self.energy) * rest[-1]
        return len(sigma) - sum(left <= allowed for left in rest)
