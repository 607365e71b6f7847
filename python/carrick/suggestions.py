"""The nearest valid name, for messages about a name that is not known."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest_name(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like `name`, or None when nothing is near.

    Examples
    --------
    >>> nearest_name("denisty", ["weight", "density"])
    'density'
    >>> nearest_name("colour", ["weight", "density"]) is None
    True
    """
    spelt = {candidate.lower(): candidate for candidate in candidates}
    found = get_close_matches(name.lower(), spelt, n=1, cutoff=0.6)
    return spelt[found[0]] if found else None


def nearest(name: str, candidates: Iterable[str]) -> str:
    """Return the end of a sentence that suggests the nearest valid name; empty when nothing is near.

    Examples
    --------
    >>> "unknown parameter `denisty`" + nearest("denisty", ["weight", "density"])
    'unknown parameter `denisty`; did you mean `density`?'
    """
    found = nearest_name(name, candidates)
    return f"; did you mean `{found}`?" if found is not None else ""
