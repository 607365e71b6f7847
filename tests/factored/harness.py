"""Runs `_core.decompose` on factors of the test's own and multiplies the small matrices out in float64."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from carrick import _core
from methods.engine import record
from oracles.dtypes import NAMES
from oracles.files import read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    Array = npt.NDArray[Any]
    F64 = npt.NDArray[np.float64]

Kind = Literal["sum", "joint_columns", "joint_rows"]


@dataclass
class Term:
    """scale · b (out × rank) · a (rank × in), as stored: the values of a narrow dtype are what counts."""

    a: Array
    b: Array
    scale: float = 1.0
    transposed: tuple[bool, bool] = (False, False)

    @property
    def wide(self) -> tuple[F64, F64]:
        return self.a.astype(np.float64), self.b.astype(np.float64)

    @property
    def dense(self) -> F64:
        a, b = self.wide
        dense: F64 = self.scale * (b @ a)
        return dense


@dataclass
class Module:
    """The terms of one weight."""

    terms: list[Term]
    name: str = "w"
    rank: int | None = None

    def dense(self, kind: Kind) -> F64:
        parts = [term.dense for term in self.terms]
        if kind == "sum":
            return np.sum(parts, axis=0)
        return np.concatenate(parts, axis=1 if kind == "joint_columns" else 0)


@dataclass
class Outcome:
    """What came back for one module: `left` (columns) and one `right` for each term, multiplied out."""

    report: dict[str, Any]
    kind: Kind
    p: list[F64]
    q: list[F64]
    term_list: list[Term] = field(repr=False)

    @property
    def shared(self) -> F64:
        """U (out × k) of columns, U·Σ of sums, Vᵀ (k × in) of rows."""
        if self.kind == "joint_rows":
            return np.sum([p @ t.wide[0] for p, t in zip(self.p, self.term_list, strict=True)], axis=0)
        return np.sum([t.wide[1] @ p for p, t in zip(self.p, self.term_list, strict=True)], axis=0)

    @property
    def own(self) -> list[F64]:
        """What each term has: Q·A, or B·Q where rows lie one below the other."""
        if self.kind == "joint_rows":
            return [t.wide[1] @ q for q, t in zip(self.q, self.term_list, strict=True)]
        return [q @ t.wide[0] for q, t in zip(self.q, self.term_list, strict=True)]

    @property
    def whole(self) -> F64:
        """The product of the two sides: what was decomposed, but for what was cut."""
        if self.kind == "sum":
            return self.shared @ np.sum(self.own, axis=0)
        if self.kind == "joint_columns":
            return np.concatenate([self.shared @ own for own in self.own], axis=1)
        return np.concatenate([own @ self.shared for own in self.own], axis=0)


def request_of(folder: Path, modules: list[Module], kind: Kind, **options: Any) -> dict[str, Any]:
    """Write the factors, one file for each place in the list of terms, and the request that reads them."""
    count = max(len(module.terms) for module in modules)
    files, places = [], []
    for number in range(count):
        tensors: dict[str, Array] = {}
        for module in modules:
            if number < len(module.terms):
                term = module.terms[number]
                turned = [m.T if t else m for m, t in zip((term.a, term.b), term.transposed, strict=True)]
                tensors |= {f"{module.name}.lora_{x}.weight": m for x, m in zip("AB", turned, strict=True)}
        path = folder / f"adapter-{number}.safetensors"
        write_file(path, tensors, sorted(tensors, key=lambda name: -tensors[name].itemsize))
        entry, where = record(path)
        files.append(entry)
        places.append(where)

    def factor(module: Module, number: int, side: int) -> dict[str, Any]:
        stored = places[number][f"{module.name}.lora_{'AB'[side]}.weight"]
        term = module.terms[number]
        dtype = NAMES[(term.a, term.b)[side].dtype]
        place = {"file": number, "offset": stored["begin"], "dtype": dtype}
        return place | {"transposed": term.transposed[side]}

    def entry_of(module: Module) -> dict[str, Any]:
        terms = [
            {"a": factor(module, i, 0), "b": factor(module, i, 1), "rank": t.a.shape[0], "scale": t.scale}
            for i, t in enumerate(module.terms)
        ]
        out, wide = module.terms[0].b.shape[0], module.terms[0].a.shape[1]
        return {"name": module.name, "out": out, "in": wide, "terms": terms, "rank": module.rank}

    return {"files": files, "kind": kind, "modules": [entry_of(module) for module in modules]} | options


def decompose_all(
    folder: Path,
    modules: list[Module],
    kind: Kind,
    *,
    threads: int = 1,
    memory: int | None = None,
    progress: Callable[[str], Any] | None = None,
    **options: Any,
) -> list[Outcome]:
    """Decompose and read back what was written."""
    request = request_of(folder, modules, kind, **options)
    out = folder / "small.safetensors"
    settings: dict[str, int] = {"threads": threads} | ({"memory": memory} if memory else {})
    report = json.loads(_core.decompose(json.dumps(request), str(out), json.dumps(settings), progress))
    json.loads(_core.read_header(str(out)))  # checks every byte's place
    tensors = read_file(out)
    outcomes = []
    for index, (module, entry) in enumerate(zip(modules, report["modules"], strict=True)):
        assert entry["name"] == module.name
        small = [
            [tensors[f"{index}.{i}.{which}"].astype(np.float64) for i in range(len(module.terms))]
            for which in "pq"
        ]
        outcomes.append(Outcome(entry, kind, small[0], small[1], module.terms))
    return outcomes


def decompose(folder: Path, terms: list[Term], kind: Kind, **options: Any) -> Outcome:
    """Decompose one module."""
    return decompose_all(folder, [Module(terms)], kind, **options)[0]


def factors(
    rng: np.random.Generator, out: int, wide: int, rank: int, dtype: Any = np.float32, *, scale: float = 1.0
) -> Term:
    """A term of random factors."""
    a, b = rng.standard_normal((rank, wide)), rng.standard_normal((out, rank))
    return Term((a / np.sqrt(wide)).astype(dtype), (b / np.sqrt(out)).astype(dtype), scale)


def distance(a: Array, b: Array) -> float:
    """The Frobenius distance as a share of the second one's norm."""
    norm = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / (norm or 1.0)
