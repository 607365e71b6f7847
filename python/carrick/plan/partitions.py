"""Which layers the language expert gives in layer swapping: the paper's partitions, counts, fractions.

The paper's models have 28 to 48 layers; at other depths L each count c becomes max(1, round half up(c·L/32)).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from carrick.errors import PlanError

_PAPER_DEPTH = 32
_SAME_COUNTS = range(28, 49)
# First and last layers that come from the language expert; of [A] their MLPs, of [Z] the layers between.
PARTITIONS = {"A": (6, 2), "B": (8, 4), "C": (6, 2), "Z": (8, 4)}


@dataclass(frozen=True, slots=True)
class Share:
    """The language expert's part of a stack: the first and last layers, or (`inner`) those between them."""

    first: int
    last: int
    inner: bool = False
    attention: bool = False  # all attention as well

    def gives(self, layer: int, layers: int, *, attention: bool) -> bool:
        """Whether a tensor of this layer comes from the language expert."""
        outer = layer < self.first or layer >= layers - self.last
        return (outer != self.inner) or (self.attention and attention)


def scaled(count: int, layers: int) -> int:
    """Layers of a model of this depth that stand for `count` layers of the paper's.

    >>> [scaled(8, depth) for depth in (2, 12, 24, 28, 32, 48, 80)]
    [1, 3, 6, 8, 8, 8, 20]
    """
    if layers in _SAME_COUNTS:
        return count
    return max(1, (2 * count * layers + _PAPER_DEPTH) // (2 * _PAPER_DEPTH))


def partition_share(partition: str, layers: int, stack: str) -> Share:
    """Share of the language expert in a partition of the paper, for a stack of this depth.

    Raises
    ------
    PlanError
        One of the two experts would give nothing.

    Examples
    --------
    >>> partition_share("B", 32, "model.layers")
    Share(first=8, last=4, inner=False, attention=False)
    """
    first, last = (scaled(count, layers) for count in PARTITIONS[partition])
    if first + last >= layers:
        left = "language" if partition == "Z" else "task"
        raise PlanError(
            f"partition {partition} of the {layers} layers of {stack} takes the first {first} and the last "
            f"{last}: "
            f"nothing is left for the {left} expert; give `layers: {{first: …, last: …}}`"
        )
    return Share(first, last, inner=partition == "Z", attention=partition == "A")


def counted_share(first: float, last: float, layers: int, stack: str) -> Share:
    """Share of the language expert by counts (int) or fractions (float, rounded half up) of a stack's layers.

    Raises
    ------
    PlanError
        More layers than there are, or none left for the task expert.

    Examples
    --------
    >>> counted_share(0.25, 2, 24, "model.layers")
    Share(first=6, last=2, inner=False, attention=False)
    """
    counts = [n if isinstance(n, int) else math.floor(n * layers + 0.5) for n in (first, last)]
    if sum(counts) >= layers:
        raise PlanError(
            f"`layers` gives the language expert the first {counts[0]} and the last {counts[1]} of the "
            f"{layers} layers "
            f"of {stack}: nothing is left for the task expert; lower them"
        )
    return Share(counts[0], counts[1])
