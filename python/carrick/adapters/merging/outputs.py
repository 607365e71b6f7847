"""The merged adapter under construction: jobs for its tensors, the rank and α of each module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from carrick.checkpoints.element_types import is_float
from carrick.plan.description import Block, Description, Factor, Product
from carrick.plan.job import CAST, COPY, Input, Job

if TYPE_CHECKING:
    from carrick.adapters.adapter import Adapter
    from carrick.adapters.merging.lineup import Entry, Term
    from carrick.checkpoints import Checkpoint
    from carrick.plan.description import Place

Real = Literal["F32", "F64"]


@dataclass(slots=True)
class Outputs:
    """What the merged adapter will hold."""

    dtype: str | None  # of the output, None for that of the inputs
    jobs: list[Job] = field(default_factory=list)
    ranks: dict[str, int] = field(default_factory=dict)
    alphas: dict[str, float] = field(default_factory=dict)
    modules: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    modules_to_save: tuple[str, ...] = ()
    task: int = 0  # the adapter whose task it has: modules saved whole belong to one
    tokens: dict[str, tuple[int, ...]] = field(default_factory=dict)
    bias: str = "none"
    lora_bias: bool = False
    kept: Adapter | None = None  # whose modules saved whole it has, where they are one adapter's
    is_tied: bool = False  # whether head and embeddings are one
    base: Checkpoint | None = None  # where tensors of it went into the result

    def type_of(self, stored: str) -> str:
        """Element type that a tensor is written in."""
        return self.dtype or stored

    def add_rank(self, entry: Entry, rank: int, alpha: float | None = None) -> None:
        """Note the rank of a module, and its α where that is not the rank."""
        self.ranks[entry.path] = rank
        if alpha is not None:
            self.alphas[entry.path] = alpha

    def add_a(
        self, entry: Entry, rank: int, method: str, options: dict[str, Any], inputs: list[Input]
    ) -> None:
        """Add the job that makes a module's A."""
        name, _ = entry.names
        self.jobs.append(Job(name, entry.a_shape(rank), self.type_of(entry.dtype), method, options, inputs))

    def add_b(
        self, entry: Entry, rank: int, method: str, options: dict[str, Any], inputs: list[Input]
    ) -> None:
        """Add the job that makes a module's B."""
        _, name = entry.names
        self.jobs.append(Job(name, entry.b_shape(rank), self.type_of(entry.dtype), method, options, inputs))

    def add_copy(self, name: str, shape: tuple[int, ...], place: Place) -> None:
        """Add a stored tensor as it is, but for its floating-point type."""
        dtype = self.type_of(place.dtype) if is_float(place.dtype) else place.dtype
        method = COPY if dtype == place.dtype else CAST
        self.jobs.append(Job(name, shape, dtype, method, {}, [Input(place)]))


def real_of(entry: Entry, precision: str) -> Real:
    """Type of the arithmetic on a module."""
    return "F64" if precision == "float64" or entry.is_double else "F32"


def stacked_a(entry: Entry, scales: list[float], real: Real) -> Input:
    """Describe the factors A one below the other, each times its scale."""
    described = Description(entry.total_rank, entry.columns, dtype=real)
    row = 0
    for term, scale in zip(entry.terms, scales, strict=True):
        rank = term.module.rank
        described.blocks.append(Block(term.a, rank, entry.columns, row=row, scale=scale))
        row += rank
    return Input(described)


def stacked_b(entry: Entry, real: Real) -> Input:
    """Describe the factors B side by side."""
    described = Description(entry.rows, entry.total_rank, dtype=real)
    column = 0
    for term in entry.terms:
        rank = term.module.rank
        described.blocks.append(Block(term.b, entry.rows, rank, column=column))
        column += rank
    return Input(described)


def product_with_a(term: Term, left: Place, rows: int, columns: int, real: Real) -> Description:
    """Describe left (rows × rank) · A."""
    described = Description(rows, columns, dtype=real)
    described.products.append(Product(Factor(left), Factor(term.a), term.module.rank))
    return described


def product_with_b(term: Term, right: Place, rows: int, columns: int, real: Real) -> Description:
    """Describe B · right (rank × columns)."""
    described = Description(rows, columns, dtype=real)
    described.products.append(Product(Factor(term.b), Factor(right), term.module.rank))
    return described


def update_of(term: Term, rows: int, columns: int, real: Real) -> Description:
    """Describe ΔW = s·B·A of one adapter."""
    described = Description(rows, columns, dtype=real)
    module = term.module
    described.products.append(Product(Factor(term.b), Factor(term.a), module.rank, module.scale))
    return described


def zeros(rows: int, columns: int, real: Real = "F32") -> Input:
    """Describe a matrix of zeros."""
    return Input(Description(rows, columns, dtype=real))
