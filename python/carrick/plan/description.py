"""Tensors that are computed while they are read: a base with adapters, an update from its factors.

They mirror the core's `plan::description`: Σ blocks + Σ scale·left·right, then rows replaced and normed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from carrick.checkpoints.element_types import byte_count


@dataclass(frozen=True, slots=True)
class Place:
    """Stored elements; `offset` counts bytes from the start of the file's data section."""

    file: int
    offset: int
    dtype: str

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        return {"file": self.file, "offset": self.offset, "dtype": self.dtype}


@dataclass(frozen=True, slots=True)
class Block:
    """A stored matrix (rows × columns), times `scale`, added from (`row`, `column`) on."""

    place: Place
    rows: int
    columns: int
    row: int = 0
    column: int = 0
    scale: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        own = {name: getattr(self, name) for name in ("rows", "columns", "row", "column", "scale")}
        return {**self.place.as_dict(), **own}


@dataclass(frozen=True, slots=True)
class Factor:
    """A stored factor of a product; `transposed` where the file holds the transpose."""

    place: Place
    transposed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        return {**self.place.as_dict(), "transposed": self.transposed}


@dataclass(frozen=True, slots=True)
class Product:
    """`scale` · `left` (rows × rank) · `right` (rank × columns)."""

    left: Factor
    right: Factor
    rank: int
    scale: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        sides = {"left": self.left.as_dict(), "right": self.right.as_dict()}
        return {**sides, "rank": self.rank, "scale": self.scale}


@dataclass(frozen=True, slots=True)
class Replaced:
    """Stored rows in place of computed ones, row + scale·(stored − row): trained tokens."""

    place: Place
    rows: tuple[int, ...]
    scale: float = 1.0

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        return {**self.place.as_dict(), "rows": list(self.rows), "scale": self.scale}


@dataclass(slots=True)
class Description:
    """A matrix (rows × columns) that no file holds, computed in `dtype` (F32 or F64).

    `magnitude` places one norm for each row, to which the row is brought (DoRA).
    """

    rows: int
    columns: int
    blocks: list[Block] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    replaced: Replaced | None = None
    magnitude: Place | None = None
    dtype: Literal["F32", "F64"] = "F32"

    @classmethod
    def of_shape(cls, shape: tuple[int, ...], dtype: Literal["F32", "F64"] = "F32") -> Description:
        """Return an empty description (zeros) of a tensor: its first dimension by all the others.

        Examples
        --------
        >>> zeros = Description.of_shape((8, 4, 3, 3))
        >>> zeros.rows, zeros.columns
        (8, 36)
        """
        rows, *others = shape if len(shape) > 1 else (1, *shape)
        return cls(rows, math.prod(others), dtype=dtype)

    def places(self) -> list[tuple[Place, int]]:
        """Every place that is read, and how many elements lie there."""
        places = [(block.place, block.rows * block.columns) for block in self.blocks]
        for product in self.products:
            places.append((product.left.place, product.rank * self.rows))
            places.append((product.right.place, product.rank * self.columns))
        if self.replaced is not None:
            places.append((self.replaced.place, len(self.replaced.rows) * self.columns))
        if self.magnitude is not None:
            places.append((self.magnitude, self.rows))
        return places

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        content: dict[str, Any] = {"dtype": self.dtype, "rows": self.rows, "columns": self.columns}
        if self.blocks:
            content["blocks"] = [block.as_dict() for block in self.blocks]
        if self.products:
            content["products"] = [product.as_dict() for product in self.products]
        if self.replaced is not None:
            content["replaced"] = self.replaced.as_dict()
        if self.magnitude is not None:
            content["magnitude"] = self.magnitude.as_dict()
        return content

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Description:
        """Read what `as_dict` wrote."""
        dtype = content["dtype"]
        if dtype not in {"F32", "F64"}:
            raise ValueError(f"{dtype!r}: a description is computed in F32 or F64")
        magnitude, replaced = content.get("magnitude"), content.get("replaced")
        return cls(
            read_count(content["rows"]),
            read_count(content["columns"]),
            [_block(b) for b in content.get("blocks", [])],
            [_product(p) for p in content.get("products", [])],
            None if replaced is None else _replaced(replaced),
            None if magnitude is None else read_place(magnitude),
            dtype,
        )


def read_place(content: dict[str, Any]) -> Place:
    """Read a place back from a plan."""
    dtype = content["dtype"]
    byte_count(dtype, 8)  # refuses what is no element type
    return Place(read_count(content["file"]), read_count(content["offset"]), dtype)


def read_count(value: object) -> int:
    """Return a whole number from 0 on.

    Raises
    ------
    ValueError
        It is something else.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is not a whole number from 0 on")
    return value


def _block(content: dict[str, Any]) -> Block:
    rows, columns, row, column = (
        read_count(content.get(name, 0)) for name in ("rows", "columns", "row", "column")
    )
    return Block(read_place(content), rows, columns, row, column, float(content.get("scale", 1.0)))


def _factor(content: dict[str, Any]) -> Factor:
    return Factor(read_place(content), content.get("transposed", False) is True)


def _product(content: dict[str, Any]) -> Product:
    sides = (_factor(content["left"]), _factor(content["right"]))
    return Product(*sides, read_count(content["rank"]), float(content.get("scale", 1.0)))


def _replaced(content: dict[str, Any]) -> Replaced:
    rows = tuple(read_count(row) for row in content["rows"])
    return Replaced(read_place(content), rows, float(content.get("scale", 1.0)))
