"""What differs between two models, sorted: matrices that become factors, and tensors that are stored whole."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.adapters.extracting.naming import HEADS, named_as, task_of, tied_head
from carrick.adapters.patterns import Patterns
from carrick.checkpoints import is_float, locate
from carrick.errors import ConfigError, PlanError
from carrick.plan.same_bytes import same_values
from carrick.plan.tied import VOCABULARY_HEAD, word_embeddings
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.checkpoints import Checkpoint, StoredTensor

# Embeddings within the layers (T5's relative positions), whose factors PEFT names otherwise.
_EMBEDDING = re.compile(r"(^|[._])(embed\w*|embeddings?|relative_attention_bias)\.weight$")


@dataclass
class Targets:
    """What an extraction makes of each tensor of the tuned model.

    Attributes
    ----------
    matrices
        Weights of layers that become factors, if they differ at all.
    whole
        Tensors that are stored whole: names of the tuned model.
    biases
        Biases of modules that are not stored whole.
    heads
        Heads that are tied to embeddings stored whole, by the embeddings' name.
    unchosen, unsaved
        What differs and is left out: matrices of the layers that no pattern names, and tensors that were not to be
        stored.
    notes
        What a user should know.
    """

    matrices: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    biases: list[str] = field(default_factory=list)
    heads: dict[str, str] = field(default_factory=dict)
    unchosen: list[str] = field(default_factory=list)
    unsaved: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def modules_to_save(self) -> list[str]:
        """Paths of the modules that are stored whole."""
        return sorted({name.rpartition(".")[0] for name in [*self.whole, *self.heads]})


def find_targets(
    base: Checkpoint, tuned: Checkpoint, patterns: Sequence[str] | None = None, *, save: bool = True
) -> Targets:
    """Sort the tensors of a tuned model by what an adapter can hold of them.

    Parameters
    ----------
    base, tuned
        The two models, by their headers.
    patterns
        Modules to extract, as PEFT matches them: regular expressions for the end of a path. None takes every
        matrix within the layers.
    save
        Store embeddings, head, norms and biases that differ.

    Raises
    ------
    ConfigError
        A pattern that no matrix within the layers fits.
    PlanError
        A tensor that one of the models lacks, or whose shape differs, and that cannot be stored whole.
    """
    sorting = _Sorting(base, tuned, patterns, save=save)
    for name in tuned.tensors:
        sorting.add(name)
    return sorting.finish()


class _Sorting:
    def __init__(
        self, base: Checkpoint, tuned: Checkpoint, patterns: Sequence[str] | None, *, save: bool
    ) -> None:
        self.base = base = named_as(base, tuned)
        self.tuned = tuned
        self.chosen = None if patterns is None else Patterns(dict.fromkeys(patterns, True), "--modules")
        self.save = save
        self.layers = {stack.prefix for stack in tuned.stacks}
        self.expected = HEADS.get(task_of(tuned) or "", set())
        self.found = Targets()
        self._refuse_unmatched(patterns or ())
        self.differing: list[str] = []
        for name, tensor in base.tensors.items():
            known = name in tuned.tensors or VOCABULARY_HEAD.search(name) or _is_buffer(name, tensor)
            if not known and is_float(tensor.dtype):
                raise PlanError(
                    f"{tuned.ref}: has no tensor {name!r}, which {base.ref} has"
                    f"{nearest(name, tuned.tensors)}; give the base that it was tuned from"
                )

    def add(self, name: str) -> None:
        tensor = self.tuned.tensors[name]
        before = self.base.tensors.get(name)
        path = name.rpartition(".")[0]
        matrix = self._is_matrix(name)
        if before is None and _is_buffer(name, tensor):
            return
        if not is_float(tensor.dtype):
            self._integers(name)
        elif before is None or before.shape != tensor.shape:
            self._new(name, matrix=matrix)
        elif matrix and (self.chosen is None or self.chosen.find(path)):
            self.found.matrices.append(name)
        elif self._differs(name):
            (self.found.unchosen if matrix else self.differing).append(name)
        elif path.rpartition(".")[2] in self.expected:
            self.differing.append(name)

    def finish(self) -> Targets:
        found = self.found
        if self.save:
            modules = {name.rpartition(".")[0] for name in self.differing if not name.endswith(".bias")}
            targets = {name.rpartition(".")[0] for name in found.matrices}
            for name in self.differing:
                whole = name.rpartition(".")[0] in modules - targets or not name.endswith(".bias")
                (found.whole if whole else found.biases).append(name)
            # A module is stored with all that it has: PEFT expects its bias beside its weight.
            held = {name.rpartition(".")[0] for name in found.whole}
            found.whole = [
                name
                for name in self.tuned.tensors
                if name.rpartition(".")[0] in held and is_float(self.tuned.tensors[name].dtype)
            ]
            self._refuse_parents(held)
            self._add_tied_heads()
        else:
            found.unsaved = self.differing
        self._say(found.unchosen, "differ and are not among --modules")
        self._say(found.unsaved, "differ and are not stored, as was asked")
        if not found.matrices and not found.whole and not found.biases:
            raise PlanError(
                f"{self.tuned.ref}: holds no matrix of a layer that could be extracted"
                f"{'; look at the patterns of --modules' if self.chosen is not None else ''}"
            )
        return found

    def _refuse_unmatched(self, patterns: Sequence[str]) -> None:
        """Refuse patterns that choose nothing: a mistyped one would go unnoticed beside others."""
        paths = [name.rpartition(".")[0] for name in self.tuned.tensors if self._is_matrix(name)]
        ends = {path.rpartition(".")[2] for path in paths}
        for pattern in patterns:
            if not any(Patterns({pattern: True}, "--modules").find(path) for path in paths):
                known = nearest(pattern, ends) or f"; these end in {', '.join(sorted(ends))}" if ends else ""
                raise ConfigError(
                    f"--modules: {pattern!r} matches no matrix of a layer of {self.tuned.ref}{known}"
                )

    def _is_matrix(self, name: str) -> bool:
        place = locate(name)
        inside = place is not None and place.prefix in self.layers
        shape = self.tuned.tensors[name].shape
        return inside and name.endswith(".weight") and len(shape) == 2 and not _EMBEDDING.search(name)

    def _integers(self, name: str) -> None:
        """Leave integer tensors to the base, which must have the same."""
        before = self.base.tensors.get(name)
        if before is not None and before.shape == self.tuned.tensors[name].shape and not self._differs(name):
            return
        raise PlanError(
            f"{self.tuned.file_of(name)}: {name!r} is {self.tuned.tensors[name].dtype} and not as in {self.base.ref}; "
            "an adapter holds floating-point numbers alone"
        )

    def _new(self, name: str, *, matrix: bool) -> None:
        """Take a tensor that the base lacks, or has in another shape."""
        before, shape = self.base.tensors.get(name), list(self.tuned.tensors[name].shape)
        if matrix:
            have = "has no such tensor" if before is None else f"has the shape {list(before.shape)}"
            raise PlanError(
                f"{self.tuned.file_of(name)}: {name!r} has the shape {shape}, and {self.base.ref} {have}; give the "
                "base that it was tuned from"
            )
        self.differing.append(name)
        if before is not None:
            self.found.notes.append(
                f"{name} has the shape {shape} and {list(before.shape)} in the base: resize the base's embeddings "
                "before the adapter is loaded."
            )

    def _differs(self, name: str) -> bool:
        return not same_values(self.base, self.base.tensors[name], self.tuned, self.tuned.tensors[name])

    def _refuse_parents(self, held: set[str]) -> None:
        """Refuse parameters of a module that has modules within: PEFT would store all of it."""
        paths = {name.rpartition(".")[0] for name in self.tuned.tensors}
        parents = {path[:at] for path in paths for at, letter in enumerate(path) if letter == "."} | {""}
        for name in self.found.whole:
            if name.rpartition(".")[0] in held & parents:
                raise PlanError(
                    f"{self.tuned.file_of(name)}: {name!r} differs and belongs to a module with others within, which "
                    "PEFT cannot store by itself; leave such tensors out with --modules-to-save none"
                )

    def _add_tied_heads(self) -> None:
        """Store a head that follows its embeddings, which PEFT would leave with the base's."""
        head = tied_head(self.tuned)
        if head is None or any(VOCABULARY_HEAD.search(name) for name in self.tuned.tensors):
            return
        for name in word_embeddings(self.tuned, {}):
            if name in self.found.whole:
                self.found.heads[head] = name

    def _say(self, names: list[str], what: str) -> None:
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            self.found.notes.append(f"{len(names)} tensors {what}: {shown}.")


def _is_buffer(name: str, tensor: StoredTensor) -> bool:
    """Whether a class makes a tensor itself, which transformers once stored: `gpt2` on the Hub has its masks."""
    is_mask = name.endswith(".bias") and len(tensor.shape) == 4
    return is_mask or name.endswith((".masked_bias", ".rotary_emb.inv_freq"))
