"""Small decompositions of the factors, done by the core into a file that the merge then reads."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from carrick import _core
from carrick.checkpoints.headers import read_file
from carrick.errors import PlanError
from carrick.plan.description import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.checkpoints import FileRecord

Kind = Literal["sum", "joint_columns", "joint_rows"]


class Decomposition:
    """What the core found: for each module the rank, and for each of its terms P and Q.

    For a sum Σ cᵢ·Bᵢ·Aᵢ ≈ (Σ Bᵢ·Pᵢ)·(Σ Qᵢ·Aᵢ). For updates side by side (`joint_columns`) the basis is
    U = Σ Bᵢ·Pᵢ and Σ·Vᵢᵀ = Qᵢ·Aᵢ; one above the other (`joint_rows`) Vᵀ = Σ Pᵢ·Aᵢ and Uᵢ·Σ = Bᵢ·Qᵢ.
    """

    def __init__(
        self, report: dict[str, Any], record: FileRecord, tensors: dict[str, Any], file: int
    ) -> None:
        self.modules: list[dict[str, Any]] = report["modules"]
        self.bytes_read: int = report["bytes_read"]
        self.record = record
        self._tensors = tensors
        self._file = file

    def rank(self, module: int) -> int:
        """Rank of a module, 0 where all its updates are zero."""
        return int(self.modules[module]["rank"])

    def place(self, module: int, term: int, which: Literal["p", "q"]) -> Place:
        """Where P or Q of a term lies."""
        tensor = self._tensors[f"{module}.{term}.{which}"]
        return Place(self._file, tensor.begin, tensor.dtype)


def decompose(
    lineup: AdapterLineup,
    kind: Kind,
    scales: list[list[float]],
    request: dict[str, Any],
    engine: Engine,
) -> Decomposition:
    """Run the core's decompositions.

    Parameters
    ----------
    lineup
        The modules.
    kind
        Truncation of the sum, or the basis that the updates share.
    scales
        For each module the factor of each term's B·A.
    request
        `tolerance`, `rank`, `energy`, `precision`.
    engine
        How the core works; the result lies in its folder.

    Raises
    ------
    PlanError
        A factor holds NaN or infinities.
    """
    modules = [_module(entry, own) for entry, own in zip(lineup.entries, scales, strict=True)]
    content = {"files": [vars_of(f) for f in lineup.files], "kind": kind, "modules": modules, **request}
    path = engine.folder / "decomposition.factors"
    path.unlink(missing_ok=True)
    report = json.loads(
        _core.decompose(json.dumps(content), str(path), json.dumps(engine.options), engine.progress)
    )
    record, tensors = read_file(path, 0)
    if len(report["modules"]) != len(modules):
        raise PlanError(f"{path}: {len(report['modules'])} of {len(modules)} modules were decomposed")
    return Decomposition(report, record, tensors, len(lineup.files))


def vars_of(record: FileRecord) -> dict[str, Any]:
    """Describe a file as the core takes it."""
    names = ("path", "size", "mtime_ns", "inode", "header_hash", "data_start")
    return {name: getattr(record, name) for name in names}


def _module(entry: Entry, scales: list[float]) -> dict[str, Any]:
    terms = [
        {"a": _place(term.a), "b": _place(term.b), "rank": term.module.rank, "scale": scale}
        for term, scale in zip(entry.terms, scales, strict=True)
    ]
    return {"name": entry.path, "out": entry.rows, "in": entry.columns, "terms": terms}


def _place(place: Place) -> dict[str, Any]:
    return {**place.as_dict(), "transposed": False}


def read_factors(record: FileRecord) -> Callable[[str], NDArray[Any]]:
    """Return a reader of the matrices in a file that the core wrote: all of a model's are more than memory may hold."""
    from safetensors import safe_open  # noqa: PLC0415

    read: Callable[[str], NDArray[Any]] = safe_open(record.path, "numpy").get_tensor
    return read
