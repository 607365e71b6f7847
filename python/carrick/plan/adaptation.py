"""A checkpoint with adapters: every tensor that they change is found and checked, or the reason why not is said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from carrick.adapters.keys import base_name, find_name, orientations
from carrick.checkpoints.element_types import is_float
from carrick.errors import PlanError
from carrick.plan.adapted import AdaptedTensor, Rows, Update
from carrick.plan.same_bytes import same_bytes
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from carrick.adapters import Adapter, LoraModule
    from carrick.checkpoints.checkpoint import Checkpoint
    from carrick.checkpoints.headers import FileRecord, StoredTensor

_ADDS, _REPLACES, _NORMS = "adds to it", "replaces it", "sets the norms of its rows (DoRA)"
_ROWS = "replaces rows of it (trained tokens)"
_NAMED = 3
_TRAINED_ON = "use the base that the adapter was trained on"
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
    notes : what a user should know
    """

    origin: Checkpoint
    ref: str
    files: list[FileRecord] = field(default_factory=list)
    tensors: dict[str, StoredTensor] = field(default_factory=dict)
    adapted: dict[str, AdaptedTensor] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
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
        """Note how an adapter changes a tensor: several may add, several may replace rows, all else is one's alone."""
        changed = self._changed.setdefault(name, [])
        for before, kind in changed:
            if before is not adapter and not (kind == how and how in {_ADDS, _ROWS}):
                raise PlanError(
                    f"tensor {name!r}: {before.ref} {kind} and {adapter.ref} {how}, so what both give is not defined; "
                    "leave one of the adapters out"
                )
        changed.append((adapter, how))


class _Step:
    """One adapter is put on."""

    def __init__(self, model: Adaptation, adapter: Adapter, weight: float, first_file: int) -> None:
        self.model = model
        self.adapter = adapter
        self.weight = weight
        self.first_file = first_file

    def run(self) -> None:
        self._replace_whole()
        found = self._modules()
        shapes = {path: self.model.tensors[name].shape for path, name in found.items()}
        turned = orientations(self.adapter.modules.values(), shapes)
        for path, module in self.adapter.modules.items():
            self._add_module(module, found[path], turned=turned[path])
        self._replace_rows()

    def _own(self, tensor: StoredTensor) -> StoredTensor:
        """Return a tensor of the adapter with its file's number in the model."""
        return replace(tensor, file=self.first_file + tensor.file)

    def _tensor(self, name: str) -> AdaptedTensor:
        stored = self.model.tensors[name]
        if not is_float(stored.dtype):
            raise PlanError(
                f"tensor {name!r}: is {stored.dtype} in {self._file(name)} and {self.adapter.ref} changes it; an "
                "adapter needs floating-point weights"
            )
        return self.model.adapted.setdefault(name, AdaptedTensor(name, stored))

    def _file(self, name: str) -> str:
        origin = self.model.origin
        return origin.file_of(name) if name in origin.tensors else self.adapter.files[0].path

    def _refuse(self, key: str, reason: str) -> PlanError:
        return PlanError(f"{self.adapter.checkpoint.file_of(key)}: tensor {key!r} {reason}")

    def _replace_whole(self) -> None:
        """Modules that were trained whole, and biases."""
        added = []
        for sort in (self.adapter.saved, self.adapter.biases):
            for wanted, tensor in sort.items():
                name = self._named(wanted)
                key = self.adapter.keys[wanted]
                if name is not None and self._is_the_same(name, tensor):
                    continue
                self.model.take(name or wanted, self.adapter, _REPLACES)
                if name is not None:
                    self._put(name, key, tensor)
                    continue
                if sort is self.adapter.biases:
                    raise self._refuse(
                        key, f"has no counterpart {wanted!r} in {self.model.origin.ref}; {_TRAINED_ON}"
                    )
                if self.weight != 1.0:
                    raise self._refuse(
                        key,
                        f"is not in {self.model.origin.ref}, so the weight {self.weight:g} has nothing to start "
                        "from; give the adapter the weight 1",
                    )
                self.model.tensors[wanted] = self._own(tensor)
                added.append(wanted)
        if added:
            more = ", …" if len(added) > _NAMED else ""
            self.model.notes.append(
                f"{self.adapter.ref}: adds {', '.join(added[:_NAMED])}{more}, which {self.model.origin.ref} lacks; "
                "config.json stays as it is and may have to name the new head."
            )

    def _is_the_same(self, name: str, tensor: StoredTensor) -> bool:
        """Whether a tensor is a copy of the base's: PEFT saves embeddings that LoRA is put on as they were."""
        origin = self.model.origin
        stored = origin.tensors[name]
        if (
            tensor.shape != stored.shape or not Path(origin.file_of(name)).exists()
        ):  # a result still to be made
            return False
        return same_bytes(self.adapter.checkpoint, tensor, origin, stored)

    def _put(self, name: str, key: str, tensor: StoredTensor) -> None:
        """Put a tensor in the place of the base's, wholly or by the adapter's weight."""
        stored = self.model.tensors[name]
        if tensor.shape != stored.shape:
            resized = len(stored.shape) == 2 and tensor.shape[1:] == stored.shape[1:]
            remedy = "resize the base's vocabulary to it first" if resized else _TRAINED_ON
            raise self._refuse(
                key,
                f"has the shape {list(tensor.shape)}, and {name!r} in {self._file(name)} has {list(stored.shape)}; "
                f"{remedy}",
            )
        if is_float(tensor.dtype) != is_float(stored.dtype) or not (
            is_float(tensor.dtype) or (self.weight == 1.0 and tensor.dtype == stored.dtype)
        ):
            raise self._refuse(
                key, f"is {tensor.dtype}, and {name!r} in {self._file(name)} is {stored.dtype}; {_TRAINED_ON}"
            )
        if self.weight == 1.0:
            self.model.tensors[name] = self._own(tensor)
        else:
            blocks = self._tensor(name).blocks
            blocks[0] = (blocks[0][0], 1.0 - self.weight)
            blocks.append((self._own(tensor), self.weight))

    def _named(self, wanted: str) -> str | None:
        """Find the base's tensor of this name."""
        return find_name(wanted, self.model.origin.tensors)

    def _modules(self) -> dict[str, str]:
        """Find the tensor of each module, and check its shape."""
        found = {}
        for path, module in self.adapter.modules.items():
            self._refuse_tied_head(module)
            try:
                name = base_name(module, self.model.tensors)
            except PlanError as error:
                raise PlanError(f"{self.adapter.ref} on {self.model.origin.ref}: {error}") from None
            self._check_shape(module, name)
            found[path] = name
        return found

    def _refuse_tied_head(self, module: LoraModule) -> None:
        origin = self.model.origin
        if origin.tie_word_embeddings and self._named(module.weight_name) is None:
            if module.path.rpartition(".")[2] not in _HEADS:
                return
            raise PlanError(
                f"{self.adapter.ref}: changes {module.path}, which {origin.ref} ties to its embeddings and does not "
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
            raise PlanError(
                f"{module.path}: {self.adapter.checkpoint.file_of(module.a_name)} changes a weight of the shape "
                f"{list(expected[0])}, and {name!r} in {self._file(name)} has {list(stored)}; {_TRAINED_ON}"
            )

    def _add_module(self, module: LoraModule, name: str, *, turned: bool) -> None:
        self.model.take(name, self.adapter, _ADDS if module.magnitude is None else _NORMS)
        tensor = self._tensor(name)
        scale = self.weight * module.scale
        tensor.updates.append(Update(self._own(module.a), self._own(module.b), module.rank, scale, turned))
        if module.magnitude is not None:
            self._bring_to_norm(module, tensor, turned=turned)
        if module.bias is not None:
            self._add_bias(module, scale)

    def _bring_to_norm(self, module: LoraModule, tensor: AdaptedTensor, *, turned: bool) -> None:
        key = self.adapter.keys[f"{module.path}.lora_magnitude_vector"]
        if self.weight != 1.0:
            raise self._refuse(
                key,
                f"is of DoRA, which sets the norms of whole rows, and the weight is {self.weight:g}; give the adapter "
                "the weight 1",
            )
        if turned:
            raise self._refuse(
                key,
                f"is of DoRA on {tensor.name!r}, which is stored transposed: its norms run over columns, which is "
                "not supported; merge the adapter with PEFT (merge_and_unload) and give the result",
            )
        tensor.magnitude = self._own(module.magnitude) if module.magnitude else None

    def _add_bias(self, module: LoraModule, scale: float) -> None:
        if module.bias is None:
            return
        wanted = f"{module.path}.bias"
        key = self.adapter.keys[f"{module.path}.lora_B.bias"]
        name = self._named(wanted)
        if name is None:
            raise self._refuse(
                key,
                f"is a bias, and {self.model.origin.ref} has no {wanted!r} to add it to; leave `lora_bias` "
                "out, or give the base a bias",
            )
        if self.model.tensors[name].shape != (module.out_features,):
            raise self._refuse(
                key,
                f"has {module.out_features} elements, and {name!r} in {self._file(name)} has the shape "
                f"{list(self.model.tensors[name].shape)}; {_TRAINED_ON}",
            )
        self.model.take(name, self.adapter, _ADDS)
        self._tensor(name).blocks.append((self._own(module.bias), scale))

    def _replace_rows(self) -> None:
        for path, tokens in self.adapter.tokens.items():
            wanted, key = f"{path}.weight", self.adapter.keys[path]
            name = self._named(wanted)
            if name is None:
                names = self.model.tensors
                raise self._refuse(
                    key,
                    f"has no counterpart {wanted!r} in {self.model.origin.ref}{nearest(wanted, names)}; {_TRAINED_ON}",
                )
            shape, last = self.model.tensors[name].shape, max(tokens.indices, default=0)
            if len(shape) != 2 or shape[1] != tokens.rows.shape[1] or last >= shape[0]:
                raise self._refuse(
                    key,
                    f"replaces rows up to {last} of {tokens.rows.shape[1]} elements, and {name!r} in "
                    f"{self._file(name)} has the shape {list(shape)}; {_TRAINED_ON}",
                )
            self.model.take(name, self.adapter, _ROWS)
            self._tensor(name).rows.append(Rows(self._own(tokens.rows), tokens.indices, self.weight))


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
