"""The plan as typed objects: files, shards, jobs. Nothing else crosses from Python to the core."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from carrick.checkpoints.element_types import byte_count
from carrick.plan.description import Description, Place

if TYPE_CHECKING:
    from carrick.checkpoints.headers import FileRecord

FORMAT = "carrick-plan"
VERSION = 1
# What is said of a merge of adapters ahead: no jobs, which hang on decompositions.
ADAPTER_FORMAT = "carrick-adapter-plan"

Value: TypeAlias = float | bool | str
# Jobs that only move bytes, beside the methods of the table.
COPY, COPY_EQUAL, CAST = "copy", "copy_equal", "cast"


@dataclass(slots=True)
class Input:
    """One tensor that a job reads: stored elements, or a description that is computed while it is read."""

    source: Place | Description
    base: bool = False
    index: int | None = None  # the model's place in the list without the base; keys the random masks
    parameters: dict[str, Value] | None = None
    delta: bool = False  # a task vector already: the base is not taken away from it

    @property
    def dtype(self) -> str:
        """Element type that it is read as."""
        return self.source.dtype

    @property
    def is_sum(self) -> bool:
        """Whether products can be added to it: its rows are neither replaced nor normed at last."""
        source = self.source
        return isinstance(source, Place) or (source.magnitude is None and source.replaced is None)

    def places(self, elements: int) -> list[tuple[Place, int]]:
        """Every place that is read for a tensor of so many elements, and how many elements lie there."""
        return [(self.source, elements)] if isinstance(self.source, Place) else self.source.places()

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        content: dict[str, Any] = self.source.as_dict()
        if isinstance(self.source, Description):
            content = {"described": content}
        if self.base:
            content["base"] = True
        if self.delta:
            content["delta"] = True
        if self.index is not None:
            content["index"] = self.index
        if self.parameters is not None:
            content["parameters"] = self.parameters
        return content


@dataclass(slots=True)
class Job:
    """One output tensor: its inputs, the method with every option spelled out, and where it goes."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    method: str
    options: dict[str, Value]
    inputs: list[Input]
    shard: int = 0
    offset: int = 0

    @property
    def elements(self) -> int:
        """Number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in the output."""
        return byte_count(self.dtype, self.elements)

    @property
    def bytes_read_once(self) -> int:
        """Bytes of all inputs."""
        elements = self.elements
        return sum(byte_count(place.dtype, n) for i in self.inputs for place, n in i.places(elements))

    def move(self, source: Input) -> None:
        """Take one tensor as it is in place of a merge, cast where the output has another type."""
        self.method, self.options = COPY if source.dtype == self.dtype else CAST, {}
        self.inputs = [Input(source.source)]

    def as_dict(self) -> dict[str, Any]:
        """JSON object of the plan."""
        return {
            "name": self.name,
            "shape": self.shape,
            "dtype": self.dtype,
            "shard": self.shard,
            "offset": self.offset,
            "method": {"name": self.method, "options": self.options},
            "inputs": [i.as_dict() for i in self.inputs],
        }


@dataclass(slots=True)
class Shard:
    """An output file and the bytes of its data section."""

    name: str
    data_bytes: int


@dataclass(slots=True)
class Plan:
    """Everything that a merge will do. Equal inputs make an equal plan, byte for byte."""

    files: list[FileRecord]
    shards: list[Shard]
    jobs: list[Job]
    seed: int = 0
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def bytes_written(self) -> int:
        """Bytes of all output tensors."""
        return sum(s.data_bytes for s in self.shards)

    @property
    def notes(self) -> list[str]:
        """Sentences for the user: decisions taken, keys ignored, tensors left out."""
        notes: list[str] = self.meta.get("notes", [])
        return notes

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain objects, in the order of the format's description."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "seed": self.seed,
            "files": [
                {
                    "path": f.path,
                    "size": f.size,
                    "mtime_ns": f.mtime_ns,
                    "inode": f.inode,
                    "header_hash": f.header_hash,
                    "data_start": f.data_start,
                }
                for f in self.files
            ],
            "shards": [{"name": s.name, "data_bytes": s.data_bytes} for s in self.shards],
            "jobs": [job.as_dict() for job in self.jobs],
            "meta": self.meta,
        }

    def to_json(self) -> str:
        """Return the plan as compact JSON: what the core takes and `carrick plan --json` prints."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))
