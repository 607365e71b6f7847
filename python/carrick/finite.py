"""Numbers that files and callers give."""

from __future__ import annotations

import math
from typing import TypeGuard


def is_finite(value: object) -> TypeGuard[int | float]:
    """Whether a value is a number that a float can be: JSON and YAML have integers of any length.

    Examples
    --------
    >>> [is_finite(value) for value in (1, -0.5, True, "1", float("nan"), 10**400)]
    [True, True, False, False, False, False]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
