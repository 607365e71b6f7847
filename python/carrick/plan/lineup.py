"""The models of a merge: found, opened, their files numbered; and who takes part in which slice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.find import find, find_path
from carrick.plan.job import Input

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import FileRecord, StoredTensor
    from carrick.config import Document, ModelRef, Slice
    from carrick.plan.job import Value


@dataclass(slots=True)
class Model:
    """A checkpoint and the number that its first file has among the plan's files."""

    checkpoint: Checkpoint
    first_file: int
    # Tensors read under another name: the embeddings in place of a head that is tied to them.
    stand_ins: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)

    @property
    def ref(self) -> str:
        """How the user calls it."""
        return self.checkpoint.ref

    def get(self, name: str) -> StoredTensor | None:
        """Return the tensor that stands for `name` in this model, None where it has none."""
        if name in self.left_out:
            return None
        found = self.checkpoint.tensors.get(name)
        if found is None and name in self.stand_ins:
            found = self.checkpoint.tensors.get(self.stand_ins[name])
        return found

    def names(self) -> list[str]:
        """Names of the tensors that take part, in file order, stand-ins last."""
        held = [name for name in self.checkpoint.tensors if name not in self.left_out]
        return held + [name for name in self.stand_ins if name not in self.checkpoint.tensors]

    def input(
        self,
        tensor: StoredTensor,
        *,
        base: bool = False,
        index: int | None = None,
        parameters: dict[str, Value] | None = None,
    ) -> Input:
        """Describe a tensor of this model as a job's input."""
        return Input(self.first_file + tensor.file, tensor.begin, tensor.dtype, base, index, parameters)


@dataclass(slots=True)
class Lineup:
    """Who takes part in one slice: the base, if any, and the merged models in order of listing."""

    base: Model | None
    merged: list[Model]

    @property
    def everyone(self) -> list[Model]:
        """The base first, then the merged models."""
        return [self.base, *self.merged] if self.base else self.merged


@dataclass(slots=True)
class Models:
    """All models of a document."""

    by_ref: dict[ModelRef, Model]
    donor: Model
    files: list[FileRecord]

    def lineup(self, part: Slice) -> Lineup:
        """Who takes part in a slice."""
        base = self.by_ref[part.base.ref] if part.base else None
        return Lineup(base, [self.by_ref[source.ref] for source in part.merged])

    @property
    def distinct(self) -> list[Model]:
        """Every model once, the donor first."""
        return list(self.by_ref.values())


def open_models(document: Document, intermediates: Mapping[str, Checkpoint], *, download: bool) -> Models:
    """Find and index every model that gives weights or configuration, the donor first.

    Raises
    ------
    FormatError
        A model is not there or is malformed.
    """
    refs = dict.fromkeys([document.donor, *(s.ref for part in document.parts for s in part.sources)])
    by_ref: dict[ModelRef, Model] = {}
    files: list[FileRecord] = []
    for ref in refs:
        checkpoint = intermediates.get(ref.path) if ref.revision is None else None
        if checkpoint is None:
            checkpoint = find(ref.path, ref.revision, download=download)
        by_ref[ref] = Model(checkpoint, len(files))
        files.extend(checkpoint.files)
    return Models(by_ref, by_ref[document.donor], files)


def tokenizer_folder(document: Document, models: Models, *, download: bool) -> dict[str, Any]:
    """Where the tokenizer comes from: the donor, or the model that the configuration names."""
    wanted = document.tokenizer
    if wanted is None or wanted == "base":
        return place_of(models.donor)
    known = models.by_ref.get(wanted)
    if known is not None:
        return place_of(known)
    path, revision = find_path(wanted.path, wanted.revision, download=download)
    return {"ref": wanted.path, "folder": str(path if path.is_dir() else path.parent), "revision": revision}


def place_of(model: Model) -> dict[str, Any]:
    """Name, folder and revision of a model."""
    checkpoint = model.checkpoint
    return {"ref": checkpoint.ref, "folder": str(checkpoint.folder), "revision": checkpoint.revision}
