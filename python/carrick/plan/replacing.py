"""Tensors that an adapter holds whole: each is put in the place of the base's, or the reason why not is said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from carrick.adapters.keys import find_name
from carrick.checkpoints.element_types import is_float
from carrick.errors import PlanError
from carrick.plan.adapted import AdaptedTensor
from carrick.plan.same_bytes import same_bytes, same_values
from carrick.plan.tied import VOCABULARY_HEAD
from carrick.plan.vocabulary import RESIZE_FIRST, Resized, is_over_vocabulary, left_behind, resizes

if TYPE_CHECKING:
    from carrick.adapters import Adapter
    from carrick.checkpoints.headers import StoredTensor
    from carrick.plan.adaptation import Adaptation

REPLACES, RESIZES = "replaces it", "brings it with a resized vocabulary"
BRINGS = "brings it as it was before its training"
TRAINED_ON = "use the base that the adapter was trained on"
NAMED = 3


class Replacing:
    """One adapter that is put on a model: what it holds whole.

    Parameters
    ----------
    model, adapter, weight
        What is put on what, and how far.
    first_file
        Number of the adapter's first file among the model's.
    """

    def __init__(self, model: Adaptation, adapter: Adapter, weight: float, first_file: int) -> None:
        self.model = model
        self.adapter = adapter
        self.weight = weight
        self.first_file = first_file
        # Key and tensor of the last one of a resized vocabulary.
        self._resized: tuple[str, StoredTensor] | None = None

    def own(self, tensor: StoredTensor) -> StoredTensor:
        """Return a tensor of the adapter with its file's number in the model."""
        return replace(tensor, file=self.first_file + tensor.file)

    def tensor(self, name: str) -> AdaptedTensor:
        """Return the model's tensor of this name as one that is computed."""
        stored = self.model.tensors[name]
        if not is_float(stored.dtype):
            raise PlanError(
                f"tensor {name!r}: is {stored.dtype} in {self.file(name)} and {self.adapter.ref} changes it; an "
                "adapter needs floating-point weights"
            )
        return self.model.adapted.setdefault(name, AdaptedTensor(name, stored))

    def file(self, name: str) -> str:
        """Path of the file that holds a tensor of the model."""
        origin = self.model.origin
        return origin.file_of(name) if name in origin.tensors else self.adapter.files[0].path

    def refuse(self, key: str, reason: str) -> PlanError:
        """Return an error about a tensor of the adapter."""
        return PlanError(f"{self.adapter.checkpoint.file_of(key)}: tensor {key!r} {reason}")

    def named(self, wanted: str) -> str | None:
        """Find the base's tensor of this name."""
        return find_name(wanted, self.model.origin.tensors)

    def follows(self, path: str) -> bool:
        """Whether a tied head was trained as one with the embeddings: PEFT stores the factors of both."""
        adapter, name = self.adapter, f"{path}.weight"
        if not adapter.config.ensure_weight_tying or not VOCABULARY_HEAD.search(name):
            return False
        stated = self.model.origin.tie_word_embeddings
        tied = self.named(name) is None if stated is None else stated
        return tied and any(module.kind == "embedding" for module in adapter.modules.values())

    def replace_whole(self) -> None:
        """Put modules that were trained whole, and biases, in the place of the base's, and a resized vocabulary.

        Raises
        ------
        PlanError
            The base's tensor has another shape or type, or is missing; or the weight has nothing to start from.
        """
        added = []
        for sort in (self.adapter.saved, self.adapter.biases):
            for wanted, tensor in sort.items():
                name = self.named(wanted)
                key = self.adapter.keys[wanted]
                if self.follows(wanted.rpartition(".")[0]):
                    continue
                if name is not None and wanted in self.adapter.carried:
                    self._bring(name, key, tensor)
                    continue
                if self._is_tied_copy(wanted, tensor) if name is None else self._is_the_same(name, tensor):
                    continue
                self.model.take(name or wanted, self.adapter, REPLACES)
                if name is not None:
                    self._put(name, key, tensor)
                    continue
                if sort is self.adapter.biases:
                    raise self.refuse(
                        key, f"has no counterpart {wanted!r} in {self.model.origin.ref}; {TRAINED_ON}"
                    )
                if self.weight != 1.0:
                    raise self.refuse(
                        key,
                        f"is not in {self.model.origin.ref}, so the weight {self.weight:g} has nothing to start "
                        "from; give the adapter the weight 1",
                    )
                self.model.tensors[wanted] = self.own(tensor)
                added.append(wanted)
        self._check_vocabulary()
        # What becomes of a tied head is said where it is decided (`carrick.plan.apart`).
        added = [
            n for n in added if not (self.model.origin.tie_word_embeddings and VOCABULARY_HEAD.search(n))
        ]
        if added:
            more = ", …" if len(added) > NAMED else ""
            self.model.notes.append(
                f"{self.adapter.ref}: adds {', '.join(added[:NAMED])}{more}, which {self.model.origin.ref} lacks; "
                "config.json stays as it is and may have to name the new head."
            )

    def _is_the_same(self, name: str, tensor: StoredTensor) -> bool:
        """Whether a tensor is a copy of the base's."""
        origin = self.model.origin
        stored = origin.tensors[name]
        return tensor.shape == stored.shape and bool(
            same_bytes(self.adapter.checkpoint, tensor, origin, stored)
        )

    def _put(self, name: str, key: str, tensor: StoredTensor) -> None:
        """Put a tensor in the place of the base's, wholly or by the adapter's weight."""
        stored = self.model.tensors[name]
        if tensor.shape != stored.shape:
            self._resize(name, key, tensor)
            if self.weight != 1.0:
                raise self.refuse(
                    key,
                    f"is of a resized vocabulary, so that the weight {self.weight:g} has nothing to start from in the "
                    f"new rows; give the adapter the weight 1, or {RESIZE_FIRST}",
                )
        self._check_type(name, key, tensor)
        if self.weight == 1.0:
            self.model.tensors[name] = self.own(tensor)
        elif not is_float(tensor.dtype):
            raise self.refuse(
                key,
                f"is {tensor.dtype} and not the same as in {self.model.origin.ref}: the weight {self.weight:g} leaves "
                "no integers of the difference; give the adapter the weight 1",
            )
        else:
            blocks = self.tensor(name).blocks
            blocks[0] = (blocks[0][0], 1.0 - self.weight)
            blocks.append((self.own(tensor), self.weight))

    def _check_type(self, name: str, key: str, tensor: StoredTensor) -> None:
        stored = self.model.tensors[name]
        if is_float(tensor.dtype) and is_float(stored.dtype):
            return
        if tensor.dtype != stored.dtype:
            raise self.refuse(
                key, f"is {tensor.dtype}, and {name!r} in {self.file(name)} is {stored.dtype}; {TRAINED_ON}"
            )

    def _is_tied_copy(self, wanted: str, tensor: StoredTensor) -> bool:
        """Whether a head that the base ties and does not store is a copy of the adapter's own embeddings."""
        adapter, (path, _, _) = self.adapter, wanted.rpartition(".")
        if self.model.origin.tie_word_embeddings is False or not VOCABULARY_HEAD.search(wanted):
            return False
        may_follow = wanted in adapter.carried or adapter.config.ensure_weight_tying
        if not may_follow or path in adapter.modules or path in adapter.tokens:
            return False
        others = [
            other for other in adapter.saved.items() if other[0] != wanted and other[1].shape == tensor.shape
        ]
        return any(same_bytes(adapter.checkpoint, tensor, adapter.checkpoint, other) for _, other in others)

    def _bring(self, name: str, key: str, tensor: StoredTensor) -> None:
        """Put a tensor that was not trained in the base's place where it differs, whatever the weight.

        PEFT saves embeddings that LoRA is put on as they were, in the type of the training; ΔW comes on top of them.
        """
        model, stored = self.model, self.model.origin.tensors[name]
        resized = tensor.shape != stored.shape
        first = model.brought.setdefault((name, resized), (self.adapter, tensor))
        if first[0] is not self.adapter:
            self._check_brought(
                key, tensor, *first, f"of {'a resized' if resized else 'an untrained'} {name!r}"
            )
            return
        same = not resized and same_values(self.adapter.checkpoint, tensor, model.origin, stored)
        if same:
            return
        model.take(name, self.adapter, RESIZES if resized else BRINGS)
        if resized:
            self._resize(name, key, tensor, untrained=True)
        elif same is False:
            model.notes.append(
                f"{self.adapter.ref}: holds {name} as it was before its training, which is not what "
                f"{model.origin.ref} has: the adapter's is taken."
            )
        self._check_type(name, key, tensor)
        model.tensors[name] = self.own(tensor)

    def _check_brought(
        self, key: str, tensor: StoredTensor, first: Adapter, other: StoredTensor, what: str
    ) -> None:
        """Refuse a tensor that was not trained and is not what an adapter before has of it."""
        if same_values(self.adapter.checkpoint, tensor, first.checkpoint, other) is not False:
            return
        why = "the two were trained on different bases, and what both give is not defined"
        if tensor.dtype != other.dtype:
            why = f"one is {tensor.dtype}, the other {other.dtype}"
        remedy = f", or {RESIZE_FIRST}" if "resized" in what else ""
        raise self.refuse(
            key, f"is not what {first.ref} has {what}: {why}; leave one of the adapters out{remedy}"
        )

    def _resize(self, name: str, key: str, tensor: StoredTensor, *, untrained: bool = False) -> None:
        """Note the vocabulary of a tensor that is larger or smaller than the base's; refuse any other shape."""
        model, stored = self.model, self.model.tensors[name]
        rows = (stored.shape[0], tensor.shape[0]) if resizes(name, stored.shape, tensor.shape) else None
        if rows is None or (model.resized is not None and model.resized[:2] != rows):
            of_words = is_over_vocabulary(name, stored.shape) and stored.shape[1:] == tensor.shape[1:]
            raise self.refuse(
                key,
                f"has the shape {list(tensor.shape)}, and {name!r} in {self.file(name)} has {list(stored.shape)}; "
                f"{RESIZE_FIRST if of_words else TRAINED_ON}",
            )
        self._resized = key, tensor
        if model.resized is None:
            model.resized = Resized(*rows, self.adapter.ref, untrained)
            model.notes.append(f"{self.adapter.ref}: was trained with a vocabulary of {rows[1]} tokens.")
        elif not untrained:
            model.resized = model.resized._replace(untrained=False)

    def _check_vocabulary(self) -> None:
        """Refuse an adapter that has a resized vocabulary, but not all that the base has of one."""
        model = self.model
        if self._resized is None or model.resized is None:
            return
        name = left_behind(model.origin, model.tensors, model.resized)
        if name is not None:
            key, tensor = self._resized
            raise self.refuse(
                key,
                f"has the shape {list(tensor.shape)}: the vocabulary was resized before the training. {name!r} in "
                f"{self.file(name)} has the shape {list(model.tensors[name].shape)}, and the adapter does not hold it "
                f"resized; {RESIZE_FIRST}",
            )
