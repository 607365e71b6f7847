"""A checkpoint with adapters: every tensor that they change is found and checked, or the reason why not is said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from carrick.adapters.keys import base_name, orientations
from carrick.errors import PlanError
from carrick.plan.adapted import AdaptedTensor, Rows, Update
from carrick.plan.replacing import BRINGS, RESIZES, TRAINED_ON, Replacing
from carrick.plan.vocabulary import RESIZE_FIRST, UNKNOWN_ROWS, Resized, resizes
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from carrick.adapters import Adapter, LoraModule
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import FileRecord, StoredTensor

_ADDS, _NORMS = "adds to it", "sets the norms of its rows (DoRA)"
_ROWS = "replaces rows of it (trained tokens)"
_HEADS = ("lm_head", "embed_out", "output", "proj_out")


@dataclass(slots=True)
class Adaptation:
    """A checkpoint on which adapters are put, one after the other.

    Attributes
    ----------
    origin : the checkpoint as it is stored
    ref : what the user calls the model with its adapters
    files : the checkpoint's files, then those of each adapter
    tensors : the tensors, those that an adapter saved whole in place of the checkpoint's
    adapted : the tensors that are more than stored, by name
    resized : rows of the vocabulary before and after, where an adapter was trained with a resized one
    notes : what a user should know
    brought : untrained tensors by name and whether they are resized, and the first adapter that holds them
    """

    origin: Checkpoint
    ref: str
    files: list[FileRecord] = field(default_factory=list)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    adapted: dict[str, AdaptedTensor] = field(default_factory=dict)
    resized: Resized | None = None
    notes: list[str] = field(default_factory=list)
    brought: dict[tuple[str, bool], tuple[Adapter, StoredTensor]] = field(default_factory=dict)
    _changed: dict[str, list[tuple[Adapter, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = list(self.origin.files)
        self.tensors = dict(self.origin.tensors)

    def add(self, adapter: Adapter, weight: float) -> None:
        """Put one more adapter on.

        Raises
        ------
        PlanError
            A tensor that the checkpoint lacks or has in another shape, that another adapter replaces, or a
            weight where only a whole adapter can be put on.
        """
        _Step(self, adapter, weight, len(self.files)).run()
        self.files += adapter.files
        self.notes += adapter.notes
        other = _made_for(adapter, self.origin)
        if other is not None:
            self.notes.append(
                f"{adapter.ref}: was made for {other}, and is put on {self.origin.ref}; if these are not the same "
                "weights, the result is not what was trained."
            )

    def checkpoint(self) -> Checkpoint:
        """Return the model as a checkpoint, of which `adapted` holds the tensors that are computed."""
        origin = self.origin
        notes = [*origin.notes, *self.notes]
        return replace(origin, ref=self.ref, files=self.files, tensors=self.tensors, notes=notes)

    def take(self, name: str, adapter: Adapter, how: str) -> None:
        """Note how an adapter changes a tensor: several may add, several may replace rows, all else is one's alone.

        What one brings as it was before its training is the base of those after it.
        """
        changed = self._changed.setdefault(name, [])
        brings = {RESIZES, BRINGS}
        for before, kind in changed:
            alike = kind == how and how in {_ADDS, _ROWS}
            if before is not adapter and not alike and (kind not in brings or how in brings):
                if how in brings and kind not in brings:
                    raise PlanError(
                        f"tensor {name!r}: {before.ref} {kind}, and {adapter.ref} {how}; name {adapter.ref} before "
                        f"{before.ref}"
                    )
                raise PlanError(
                    f"tensor {name!r}: {before.ref} {kind} and {adapter.ref} {how}, so what both give is not defined; "
                    "leave one of the adapters out"
                )
        changed.append((adapter, how))


class _Step(Replacing):
    """One adapter is put on."""

    def run(self) -> None:
        self.replace_whole()
        found = self._modules()
        shapes = {path: self.model.tensors[name].shape for path, name in found.items()}
        modules = {path: self.adapter.modules[path] for path in found}
        turned = orientations(modules.values(), shapes)
        for path, module in modules.items():
            self._add_module(module, found[path], turned=turned[path])
        self._replace_rows()

    def _modules(self) -> dict[str, str]:
        """Find the tensor of each module, and check its shape."""
        found = {}
        for path, module in self.adapter.modules.items():
            if self.follows(path):
                continue
            self._refuse_tied_head(module.path)
            try:
                name = base_name(module, self.model.tensors)
            except PlanError as error:
                raise PlanError(f"{self.adapter.ref} on {self.model.origin.ref}: {error}") from None
            self._check_shape(module, name)
            found[path] = name
        return found

    def _refuse_tied_head(self, path: str) -> None:
        origin = self.model.origin
        if origin.tie_word_embeddings and self.named(f"{path}.weight") is None:
            if path.rpartition(".")[2] not in _HEADS:
                return
            raise PlanError(
                f"{self.adapter.ref}: changes {path}, which {origin.ref} ties to its embeddings and does not "
                "store; save the base with a head of its own (tie_word_embeddings: false) first"
            )

    def _check_shape(self, module: LoraModule, name: str) -> None:
        stored = self.model.tensors[name].shape
        a, b = module.a.shape, module.b.shape
        expected: list[tuple[int, ...]] = [(b[0], *a[1:])]
        if module.kind == "embedding":
            expected = [(a[1], b[0])]
        elif module.kind == "linear":
            expected.append((a[1], b[0]))
        if stored not in expected:
            resized = any(resizes(name, stored, shape) for shape in expected)
            raise PlanError(
                f"{module.path}: {self.adapter.checkpoint.file_of(module.a_name)} changes a weight of the shape "
                f"{list(expected[0])}, and {name!r} in {self.file(name)} has {list(stored)}; "
                f"{RESIZE_FIRST if resized else TRAINED_ON}"
            )

    def _add_module(self, module: LoraModule, name: str, *, turned: bool) -> None:
        self.model.take(name, self.adapter, _ADDS if module.magnitude is None else _NORMS)
        tensor = self.tensor(name)
        scale = self.weight * module.scale
        tensor.updates.append(Update(self.own(module.a), self.own(module.b), module.rank, scale, turned))
        if module.magnitude is not None:
            self._bring_to_norm(module, tensor, turned=turned)
        if module.bias is not None:
            self._add_bias(module, scale)

    def _bring_to_norm(self, module: LoraModule, tensor: AdaptedTensor, *, turned: bool) -> None:
        key = self.adapter.keys[f"{module.path}.lora_magnitude_vector"]
        if self.weight != 1.0:
            raise self.refuse(
                key,
                f"is of DoRA, which sets the norms of whole rows, and the weight is {self.weight:g}; give the adapter "
                "the weight 1",
            )
        if turned:
            raise self.refuse(
                key,
                f"is of DoRA on {tensor.name!r}, which is stored transposed: its norms run over columns, which is "
                "not supported; merge the adapter with PEFT (merge_and_unload) and give the result",
            )
        tensor.magnitude = self.own(module.magnitude) if module.magnitude else None

    def _add_bias(self, module: LoraModule, scale: float) -> None:
        if module.bias is None:
            return
        wanted = f"{module.path}.bias"
        key = self.adapter.keys[f"{module.path}.lora_B.bias"]
        name = self.named(wanted)
        if name is None:
            raise self.refuse(
                key,
                f"is a bias, and {self.model.origin.ref} has no {wanted!r} to add it to; leave `lora_bias` "
                "out, or give the base a bias",
            )
        if self.model.tensors[name].shape != (module.out_features,):
            raise self.refuse(
                key,
                f"has {module.out_features} elements, and {name!r} in {self.file(name)} has the shape "
                f"{list(self.model.tensors[name].shape)}; {TRAINED_ON}",
            )
        self.model.take(name, self.adapter, _ADDS)
        self.tensor(name).blocks.append((self.own(module.bias), scale))

    def _replace_rows(self) -> None:
        for path, tokens in self.adapter.tokens.items():
            wanted, key = f"{path}.weight", self.adapter.keys[path]
            name = self.named(wanted)
            if name is None:
                names = self.model.tensors
                self._refuse_tied_head(path)
                raise self.refuse(
                    key,
                    f"has no counterpart {wanted!r} in {self.model.origin.ref}{nearest(wanted, names)}; {TRAINED_ON}",
                )
            shape, last = self.model.tensors[name].shape, max(tokens.indices, default=0)
            if len(shape) != 2 or shape[1] != tokens.rows.shape[1] or last >= shape[0]:
                beyond = len(shape) == 2 and shape[1] == tokens.rows.shape[1]
                raise self.refuse(
                    key,
                    f"replaces rows up to {last} of {tokens.rows.shape[1]} elements, and {name!r} in "
                    f"{self.file(name)} has the shape {list(shape)}; "
                    f"{f'{UNKNOWN_ROWS}: {RESIZE_FIRST}' if beyond else TRAINED_ON}",
                )
            self.model.take(name, self.adapter, _ROWS)
            self.tensor(name).rows.append(Rows(self.own(tokens.rows), tokens.indices, self.weight))


def _made_for(adapter: Adapter, checkpoint: Checkpoint) -> str | None:
    """Name the base that an adapter was made for, where that is not the checkpoint."""
    stated = adapter.config.base_model_name_or_path
    if not stated:
        return None
    known = {_last(checkpoint.ref), _last(str(checkpoint.folder))}
    named = (checkpoint.config or {}).get("_name_or_path")
    if isinstance(named, str):
        known.add(_last(named))
    return None if _last(stated) in known else stated


def _last(name: str) -> str:
    """Return the last part of a path or id; of a file in the Hub's cache, the repository's name."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    cached = next((part for part in parts if part.startswith("models--")), None)
    last = cached.rpartition("--")[2] if cached else parts[-1] if parts else ""
    return last.removesuffix(".safetensors").lower()
