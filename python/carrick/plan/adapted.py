"""A tensor that adapters change: what is stored of it, what they add to it, what they put in its place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from carrick.checkpoints.headers import StoredTensor
from carrick.plan.description import Block, Description, Factor, Place, Product, Replaced
from carrick.plan.rows import row_blocks

DOUBLE = "F64"


class Update(NamedTuple):
    """scale · B·A as the base stores it: `turned` where that is the transpose, as of embeddings."""

    a: StoredTensor
    b: StoredTensor
    rank: int
    scale: float
    turned: bool

    def product(self, first_file: int) -> Product:
        """Return the product of a plan; `first_file` is the model's first among the plan's files."""
        a = Factor(place_of(self.a, first_file), self.turned)
        b = Factor(place_of(self.b, first_file), self.turned)
        left, right = (a, b) if self.turned else (b, a)
        return Product(left, right, self.rank, self.scale)


class Rows(NamedTuple):
    """Rows that are replaced: the stored ones, their numbers, and how far (1: wholly)."""

    rows: StoredTensor
    numbers: tuple[int, ...]
    scale: float


@dataclass(slots=True)
class AsStored(StoredTensor):
    """A tensor of the base as it is stored, whatever adapters make of the same bytes under another name."""


@dataclass(slots=True)
class AdaptedTensor:
    """A tensor of a model with adapters.

    Attributes
    ----------
    name : the tensor's
    stored : the tensor that is changed; its file, and those of all others, count the model's files
    blocks : stored tensors that are added, with their scales; `stored` first
    updates : what low-rank modules add
    magnitude : the row norms of DoRA
    rows : rows of an embedding that are replaced; of several adapters, W + Σ scale·(row − W), and nothing else is added
    """

    name: str
    stored: StoredTensor
    blocks: list[tuple[StoredTensor, float]] = field(default_factory=list)
    updates: list[Update] = field(default_factory=list)
    magnitude: StoredTensor | None = None
    rows: list[Rows] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.blocks = self.blocks or [(self.stored, 1.0)]

    @property
    def is_sum(self) -> bool:
        """Whether what adapters do is added to the stored tensor, so that it can be told apart from it."""
        return self.magnitude is None and not self.rows and self.blocks[0][1] == 1.0

    def description(self, first_file: int, *, update: bool = False) -> Description:
        """Describe the tensor for a plan; `update` leaves out what is stored, which `is_sum` must allow."""
        described = zeros_like(self.stored, double=any(t.dtype == DOUBLE for t in self._tensors()))
        size = (described.rows, described.columns)
        described.blocks = [
            Block(place_of(tensor, first_file), *size, scale=scale)
            for tensor, scale in self.blocks[int(update) :]
        ]
        described.products = [found.product(first_file) for found in self.updates]
        if len(self.rows) == 1:
            (new,) = self.rows
            described.replaced = Replaced(place_of(new.rows, first_file), new.numbers, new.scale)
        else:
            described.blocks += self._row_differences(first_file, described.columns)
        if self.magnitude is not None:
            described.magnitude = place_of(self.magnitude, first_file)
        return described

    def _row_differences(self, first_file: int, columns: int) -> list[Block]:
        """Describe Σ scale·(row − W): rows of several adapters, each relative to what is stored."""
        blocks = []
        stored = place_of(self.stored, first_file)
        for new in self.rows:
            # Of a number that is named twice the last row holds.
            held = {number: place for place, number in enumerate(new.numbers)}
            own = [(number, number) for number in held]
            blocks += row_blocks(stored, columns, own, -new.scale)
            blocks += row_blocks(place_of(new.rows, first_file), columns, held.items(), new.scale)
        return blocks

    def _tensors(self) -> list[StoredTensor]:
        tensors = [tensor for tensor, _ in self.blocks]
        tensors += [factor for found in self.updates for factor in (found.a, found.b)]
        tensors += [self.magnitude] if self.magnitude is not None else []
        return tensors + [new.rows for new in self.rows]


def place_of(tensor: StoredTensor, first_file: int) -> Place:
    """Return where a model's tensor lies among the files of a plan."""
    return Place(first_file + tensor.file, tensor.begin, tensor.dtype)


def zeros_like(tensor: StoredTensor, *, double: bool = False) -> Description:
    """Return zeros of a tensor's shape, computed in float64 for F64 tensors: no update at all."""
    real: Literal["F32", "F64"] = "F64" if double or tensor.dtype == DOUBLE else "F32"
    return Description.of_shape(tensor.shape, real)
