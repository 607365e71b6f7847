"""Where the basis that updates share is anybody's choice: singular values that are equal, or next to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    return [
        f"{_count(close)} {'has' if len(close) == 1 else 'have'} singular values that are nearly equal "
        f"({_named(close)}): the directions that belong to them, and so the merge, are not unique there; `min_gap` in "
        "the report has each module's smallest gap."
    ]


class Spectrum(NamedTuple):
    """Joint singular values of a module, the largest first: `rank` of those above the cut of the tolerance are kept."""

    module: str
    sigma: Sequence[float]
    rank: int
    threshold: float

    @property
    def is_cut_between_equals(self) -> bool:
        """Whether the last that is kept is nearly equal to one that counts as well and is not."""
        if not 0 < self.rank < len(self.sigma):
            return False
        last, next_ = self.sigma[self.rank - 1], self.sigma[self.rank]
        return next_ > self.threshold and last - next_ < NEARLY_EQUAL * last


def cut_between_equals(spectra: Iterable[Spectrum]) -> list[str]:
    """Return a note on the modules whose basis ends at a rank between nearly equal singular values.

    What is merged among the directions that are kept hangs on which they are, a sum as well. This is not so where
    a result is cut: all its best approximations are equally good.

    Examples
    --------
    >>> tied = Spectrum("v_proj", [2.0, 1.0, 1.0, 0.0], rank=2, threshold=1e-6)
    >>> cut_between_equals([tied])[0].partition(":")[0]
    '1 module is cut by `rank` between singular values that are nearly equal (v_proj)'
    >>> cut_between_equals([tied._replace(rank=1), tied._replace(rank=3)])
    []
    """
    tied = [spectrum.module for spectrum in spectra if spectrum.is_cut_between_equals]
    if not tied:
        return []
    return [
        f"{_count(tied)} {'is' if len(tied) == 1 else 'are'} cut by `rank` between singular values that are nearly "
        f"equal ({_named(tied)}): which directions are kept, and so the merge, is not unique there; another rank cuts "
        "elsewhere."
    ]


def _count(modules: Sequence[str]) -> str:
    return "1 module" if len(modules) == 1 else f"{len(modules)} modules"


def _named(modules: Sequence[str]) -> str:
    return modules[0] if len(modules) == 1 else f"{modules[0]}, …"
