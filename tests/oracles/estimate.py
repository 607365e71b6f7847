"""A value with a bound on the error of the arithmetic under test, and the comparison that uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .dtypes import Array, narrow


@dataclass(frozen=True)
class Estimate:
    """What a merge must give: `value`, give or take `bound`, then one rounding to the output's type."""

    value: Array
    bound: Array

    def interval(self, dtype: np.dtype[Any]) -> tuple[Array, Array]:
        """The smallest and the largest result in `dtype`, as float64."""
        with np.errstate(all="ignore"):
            low, high = self.value - self.bound, self.value + self.bound
            # An infinity stays what it is; infinite bounds around it would make a NaN.
            low, high = (np.where(np.isinf(self.value), self.value, end) for end in (low, high))
            return narrow(low, dtype).astype(np.float64), narrow(high, dtype).astype(np.float64)


def assert_matches(got: Array, want: Estimate, what: str = "") -> None:
    """Every element of `got` lies between the roundings of value ± bound; NaN where NaN is due.

    A rounding that overflows to NaN (F8_E4M3 has no infinity) at one end of the interval leaves that end
    open.
    """
    assert got.shape == want.value.shape, f"{what}: shape {got.shape}, wanted {want.value.shape}"
    low, high = want.interval(got.dtype)
    seen = got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        inside = (np.isnan(low) | (seen >= low)) & (np.isnan(high) | (seen <= high))
        due = np.isnan(low) & np.isnan(high) & np.isnan(narrow(want.value, got.dtype).astype(np.float64))
        may = np.isnan(low) | np.isnan(high)
    right = np.where(np.isnan(seen), may, inside & ~due)
    if not right.all():
        flat = np.flatnonzero(~right.reshape(-1))
        value, bound = want.value.reshape(-1), want.bound.reshape(-1)
        lines = [
            f"  [{i}] got {seen.reshape(-1)[i]!r}, wanted {value[i]!r} ± {bound[i]:.3g}" for i in flat[:8]
        ]
        raise AssertionError(f"{what}: {flat.size} of {right.size} elements differ\n" + "\n".join(lines))
