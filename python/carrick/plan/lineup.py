"""The models of a merge: found, opened, their files numbered; and who takes part in which slice."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from carrick.checkpoints.find import find, find_path
from carrick.errors import PlanError
from carrick.plan.adapted import AdaptedTensor, AsStored, place_of, zeros_like
from carrick.plan.job import Input
from carrick.plan.tied import in_a_document

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carrick.adapters import Adapter
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import FileRecord, StoredTensor
    from carrick.config import Document, ModelRef, Slice
    from carrick.plan.description import Description
    from carrick.plan.job import Value
    from carrick.plan.vocabulary import Resized

Spot: TypeAlias = tuple[int, int, int]
"""What tells a stored tensor of a model from all others: file, first byte, and the byte after its last."""


@dataclass(frozen=True, slots=True)
class AppliedAdapter:
    """An adapter on a model: its weight, and the number that its first file has among the plan's files."""

    adapter: Adapter
    weight: float
    first_file: int


@dataclass(slots=True)
class Model:
    """A checkpoint and the number that its first file has among the plan's files.

    With adapters, `checkpoint` is the model with what they put in the place of its tensors, `origin` the one as
    it is stored, and `adapted` holds what is computed, by where the stored tensor lies.
    """

    checkpoint: Checkpoint
    first_file: int
    # Tensors read under another name: the embeddings in place of a head that is tied to them.
    stand_ins: dict[str, str] = field(default_factory=dict)
    left_out: set[str] = field(default_factory=set)
    base: Checkpoint | None = None
    adapters: tuple[AppliedAdapter, ...] = ()
    adapted: dict[Spot, AdaptedTensor] = field(default_factory=dict)
    resized: Resized | None = None  # the vocabulary that its adapters bring
    apart: str | None = None  # why head and embeddings, which the base ties, are tied no more

    @property
    def ref(self) -> str:
        """How the user calls it."""
        return self.checkpoint.ref

    @property
    def origin(self) -> Checkpoint:
        """The checkpoint without its adapters."""
        return self.base or self.checkpoint

    def order_of(self, name: str, tensor: StoredTensor) -> tuple[int, int]:
        """File and first byte of a tensor in the order of the checkpoint; what adapters add comes last."""
        own = self.origin.tensors.get(name, tensor)
        return own.file, own.begin

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
        adapted = self._adapted(tensor)
        if adapted is not None:
            return Input(adapted.description(self.first_file), base, index, parameters)
        return Input(place_of(tensor, self.first_file), base, index, parameters)

    def changes(self, tensor: StoredTensor) -> bool:
        """Whether adapters change a tensor beyond putting another stored one in its place."""
        return self._adapted(tensor) is not None

    def starts_from(self, base: Model, tensor: StoredTensor, of_base: StoredTensor) -> bool:
        """Whether a tensor is stored in the same place as the base's, whatever adapters add to it."""
        same = self.origin is base.origin and _spot(tensor) == _spot(of_base)
        return same and not base.changes(of_base)

    def update(self, tensor: StoredTensor) -> Description | None:
        """Describe what adapters add to a tensor: the task vector, exactly; None where it is no sum."""
        adapted = self._adapted(tensor)
        if adapted is None:
            return zeros_like(tensor)
        return adapted.description(self.first_file, update=True) if adapted.is_sum else None

    def _adapted(self, tensor: StoredTensor) -> AdaptedTensor | None:
        return None if isinstance(tensor, AsStored) else self.adapted.get(_spot(tensor))


def _spot(tensor: StoredTensor) -> Spot:
    return tensor.file, tensor.begin, tensor.end


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
    refs = [document.donor, *(s.ref for part in document.parts for s in part.sources)]
    by_ref = open_refs(refs, intermediates, download=download)
    files = [record for model in by_ref.values() for record in model.checkpoint.files]
    return Models(by_ref, by_ref[document.donor], files)


def open_refs(
    refs: Iterable[ModelRef], intermediates: Mapping[str, Checkpoint], *, download: bool
) -> dict[ModelRef, Model]:
    """Find and index models, each once, and number their files one behind the other.

    Raises
    ------
    FormatError
        A model is not there or is malformed.
    """
    by_ref: dict[ModelRef, Model] = {}
    origins: dict[tuple[str, str | None], Checkpoint] = {}
    files = 0
    for ref in dict.fromkeys(refs):
        place = (ref.path, ref.revision)
        if place not in origins:
            made = _made_by_a_document(ref, intermediates)
            with ref.where.named():
                origins[place] = made or find(ref.path, ref.revision, download=download)
        by_ref[ref] = model = (
            _put_on(ref, _first_alike(origins, place), files, download=download)
            if ref.adapters
            else Model(origins[place], files)
        )
        files += len(model.checkpoint.files)
    return by_ref


def _first_alike(
    origins: dict[tuple[str, str | None], Checkpoint], place: tuple[str, str | None]
) -> Checkpoint:
    """Return the first checkpoint of the same files, so that a base written in two ways is known as one."""
    files = origins[place].files
    return next(checkpoint for checkpoint in origins.values() if checkpoint.files == files)


def _put_on(ref: ModelRef, origin: Checkpoint, first_file: int, *, download: bool) -> Model:
    """Open the adapters of a model."""
    from carrick.adapters.adapter import read_adapter  # noqa: PLC0415  (most merges have no adapters)
    from carrick.plan.adaptation import Adaptation  # noqa: PLC0415
    from carrick.plan.apart import come_apart  # noqa: PLC0415

    adaptation = Adaptation(origin, str(ref))
    adapters = []
    for one in ref.adapters:
        with one.where.named():
            adapter = read_adapter(one.path, revision=one.revision, download=download)
        adapters.append(AppliedAdapter(adapter, one.weight, first_file + len(adaptation.files)))
        adaptation.add(adapter, one.weight)
    adapted = {_spot(t.stored): t for t in adaptation.adapted.values()}
    put = [(one.adapter, one.weight) for one in adapters]
    apart = come_apart(origin, put, adaptation.tensors, str(ref))
    checkpoint = adaptation.checkpoint()
    return Model(
        checkpoint,
        first_file,
        base=origin,
        adapters=tuple(adapters),
        adapted=adapted,
        resized=adaptation.resized,
        apart=apart,
    )


def refuse_lost(models: Iterable[Model]) -> None:
    """Refuse adapters that change a head which is left out because it is tied to the embeddings.

    Raises
    ------
    PlanError
        Names the head and the model.
    """
    for model in models:
        lost = [tensor.name for tensor in model.adapted.values() if tensor.name in model.left_out]
        if lost:
            raise PlanError(
                f"{model.ref}: an adapter changes {lost[0]!r}, which is tied to the embeddings and not written; "
                f"`tie: untie` writes both{in_a_document(model)}"
            )


def tokenizer_folder(
    document: Document, models: Models, intermediates: Mapping[str, Checkpoint], *, download: bool
) -> dict[str, Any]:
    """Where the tokenizer comes from: the donor, or the model or document that the configuration names."""
    wanted = document.tokenizer
    if wanted is None or wanted == "base":
        return folder_of(models.donor)
    known = models.by_ref.get(wanted)
    if known is not None:
        return folder_of(known)
    made = _made_by_a_document(wanted, intermediates)
    if made is not None:
        return _folder_of(made)
    with wanted.where.named():
        path, revision = find_path(wanted.path, wanted.revision, download=download)
    found = {"ref": wanted.path, "folder": str(path if path.is_dir() else path.parent), "revision": revision}
    # No model of the merge reads it, so that only this says what must not be written over.
    return found | {"is_folder": path.is_dir(), "files": [] if path.is_dir() else [str(path)]}


def folder_of(model: Model) -> dict[str, Any]:
    """Name, folder and revision of a model, without its adapters."""
    return _folder_of(model.origin)


def _folder_of(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"ref": checkpoint.ref, "folder": str(checkpoint.folder), "revision": checkpoint.revision}


def _made_by_a_document(ref: ModelRef, intermediates: Mapping[str, Checkpoint]) -> Checkpoint | None:
    return intermediates.get(ref.path) if ref.revision is None else None
