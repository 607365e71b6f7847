"""Where the basis that updates share is anybody's choice: singular values that are equal, or next to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Directions whose singular values are this close turn into one another under rounding to float32.
NEARLY_EQUAL = 1e-6
# The same in every basis: nothing is dropped there.
_SUMS = {"knots_linear"}


def not_unique(method: str, gaps: Iterable[tuple[str, float]]) -> list[str]:
    """Return a note on the modules whose merge hangs on the choice of a basis; none where every gap is wide.

    Parameters
    ----------
    method
        Its name; `knots_linear`, a sum, is the same in every basis.
    gaps
        Each module, and the smallest relative gap between the joint singular values that it keeps.

    Examples
    --------
    >>> not_unique("knots_ties", [("q_proj", 0.1), ("v_proj", 1e-9)])[0].partition(":")[0]
    '1 module has singular values that are nearly equal (v_proj)'
    >>> not_unique("knots_linear", [("v_proj", 1e-9)])
    []
    """
    close = [module for module, gap in gaps if gap < NEARLY_EQUAL]
    if not close or method in _SUMS:
        return []
    who = f"1 module has singular values that are nearly equal ({close[0]})"
    if len(close) > 1:
        who = f"{len(close)} modules have singular values that are nearly equal ({close[0]}, …)"
    return [
        f"{who}: the directions that belong to them, and so the merge, are not unique there; `min_gap` in the report "
        "has each module's smallest gap."
    ]
