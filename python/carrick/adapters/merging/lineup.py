"""The adapters of a merge side by side: their files numbered, their modules matched by path."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from carrick.adapters.adapter import Adapter, read_adapter
from carrick.adapters.forms import in_one_form
from carrick.adapters.in_memory import called
from carrick.adapters.keys import tensor_names
from carrick.checkpoints import find_stacks
from carrick.errors import PlanError
from carrick.plan.description import Place
from carrick.plan.match import Positions

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from carrick.adapters.keys import Kind
    from carrick.adapters.module import LoraModule
    from carrick.checkpoints import FileRecord, Stack, StoredTensor
    from carrick.config import Document, Position
    from carrick.config.model_ref import ModelRef


@dataclass(frozen=True, slots=True)
class Term:
    """What one adapter gives to a module: `index` is its place in the list, `module` None where it has none."""

    index: int
    module: LoraModule
    first_file: int

    def place(self, tensor: StoredTensor) -> Place:
        """Where a tensor of this adapter lies among the files of the plan."""
        return Place(self.first_file + tensor.file, tensor.begin, tensor.dtype)

    @property
    def a(self) -> Place:
        """Factor A, rank × in."""
        return self.place(self.module.a)

    @property
    def b(self) -> Place:
        """Factor B, out × rank."""
        return self.place(self.module.b)


@dataclass(slots=True)
class Entry:
    """A module of the merged adapter, and what each adapter that has it gives."""

    path: str
    terms: list[Term] = field(default_factory=list)

    @property
    def first(self) -> LoraModule:
        """The module in the first adapter that has it."""
        return self.terms[0].module

    @property
    def kind(self) -> Kind:
        """Linear, embedding or convolution."""
        return self.first.kind

    @property
    def weight_name(self) -> str:
        """Name of the weight in the base, which filters look at."""
        return self.first.weight_name

    @property
    def rows(self) -> int:
        """Rows of ΔW = B·A."""
        return self.first.out_features

    @property
    def columns(self) -> int:
        """Columns of ΔW = B·A."""
        return self.first.in_features

    @property
    def total_rank(self) -> int:
        """Σ of the adapters' ranks: that of the exact sum."""
        return sum(term.module.rank for term in self.terms)

    @property
    def dtype(self) -> str:
        """Element type of the factors of the first adapter that has it."""
        return self.first.a.dtype

    @property
    def names(self) -> tuple[str, str]:
        """Names of A and B in the output."""
        return tensor_names(self.path, self.kind)

    def a_shape(self, rank: int) -> tuple[int, ...]:
        """Shape of A at another rank."""
        return (rank, *self.first.a.shape[1:])

    def b_shape(self, rank: int) -> tuple[int, ...]:
        """Shape of B at another rank."""
        out, _, *kernel = self.first.b.shape
        return (out, rank, *kernel)

    @property
    def is_double(self) -> bool:
        """Whether a factor is F64, and the arithmetic with it."""
        return any("F64" in {term.module.a.dtype, term.module.b.dtype} for term in self.terms)


@dataclass(slots=True)
class AdapterLineup:
    """All adapters of a merge, in their order."""

    adapters: list[Adapter]
    files: list[FileRecord]
    entries: list[Entry]
    first_files: list[int]
    positions: Positions
    notes: list[str]

    @property
    def names(self) -> list[str]:
        """How the user calls the adapters."""
        return [adapter.ref for adapter in self.adapters]

    def position(self, entry: Entry) -> Position:
        """Place of a module among the layers, for gradients."""
        return self.positions.of(entry.weight_name)

    def place(self, index: int, tensor: StoredTensor) -> Place:
        """Where a tensor of an adapter lies among the files of the plan."""
        return Place(self.first_files[index] + tensor.file, tensor.begin, tensor.dtype)


def open_adapters(document: Document, made: Mapping[str, Adapter], *, download: bool) -> AdapterLineup:
    """Read the headers of all adapters and match their modules; `made` are those of other documents by name.

    Raises
    ------
    FormatError
        An adapter is missing or malformed.
    PlanError
        Two adapters have different shapes for one module, DoRA magnitudes, or paths that cannot be told apart.
    """
    refs = [source.ref for source in document.parts[0].merged]
    read = [made.get(ref.path) or _read(ref, download=download) for ref in refs]
    adapters, renamed = in_one_form(read)
    files: list[FileRecord] = []
    first_files = []
    entries: dict[str, Entry] = {}
    for index, adapter in enumerate(adapters):
        first_files.append(len(files))
        for path, module in adapter.modules.items():
            entry = entries.setdefault(path, Entry(path))
            _check_alike(entry, module, adapters, index)
            entry.terms.append(Term(index, module, len(files)))
        files.extend(adapter.files)
    if not entries:
        raise PlanError(
            f"{', '.join(a.ref for a in adapters)}: hold no LoRA modules, so there is nothing to merge"
        )
    stacks = stacks_of(entries.values())
    if document.gradients and not stacks:
        raise document.gradients[0].where.error(
            "a gradient runs over layers, and the names of the adapters' modules show none; give one value"
        )
    positions = Positions(stacks, document.roles)
    notes = [note for adapter in adapters for note in adapter.notes] + renamed + _notes(adapters)
    if document.gradients or document.layer_swap is not None:
        counts = ", ".join(f"{stack.count} in {stack.prefix}" for stack in stacks) or "none"
        notes.append(f"layers are counted by the adapters' modules: {counts}.")
    return AdapterLineup(adapters, files, list(entries.values()), first_files, positions, notes)


def _read(ref: ModelRef, *, download: bool) -> Adapter:
    with ref.where.named():
        adapter = read_adapter(ref.path, revision=ref.revision, download=download)
    name = called(ref.path)
    return replace(adapter, ref=name, notes=[note.replace(ref.path, name) for note in adapter.notes])


def stacks_of(entries: Iterable[Entry]) -> list[Stack]:
    """Find the stacks of layers, of which adapters change a module or two in each."""
    found = find_stacks({entry.weight_name: entry.rows * entry.columns for entry in entries}, least=1)
    return [stack for stack in found if stack.count > 1]


def _check_alike(entry: Entry, module: LoraModule, adapters: Sequence[Adapter], index: int) -> None:
    if module.magnitude is not None:
        raise PlanError(
            f"{adapters[index].ref}: {module.path} has DoRA magnitudes, which say something only beside the base's "
            "weights; merge into the base instead (--base BASE --dense)"
        )
    if not entry.terms:
        return
    first, other = entry.first, entry.terms[0].index
    shapes = [(m.out_features, *m.a.shape[1:]) for m in (first, module)]
    if first.kind != module.kind or shapes[0] != shapes[1]:
        what = [
            f"{m.kind} of {' × '.join(map(str, shape))}"
            for m, shape in zip((first, module), shapes, strict=True)
        ]
        raise PlanError(
            f"{module.path}: is a {what[0]} in {adapters[other].ref} and a {what[1]} in {adapters[index].ref}; "
            "adapters of one base are needed"
        )


def _notes(adapters: Sequence[Adapter]) -> list[str]:
    """Sentences about what differs between the adapters and still goes."""
    notes = []
    bases = {a.config.base_model_name_or_path: a.ref for a in adapters if a.config.base_model_name_or_path}
    if len(bases) > 1:
        (one, first), (other, second), *_ = bases.items()
        notes.append(
            f"{first} was trained on {one}, {second} on {other}: updates of different bases may not fit together."
        )
    if len({a.config.fan_in_fan_out for a in adapters}) > 1:
        notes.append("`fan_in_fan_out` differs between the adapters; the first one's is written.")
    for adapter in adapters:
        missing = {path for other in adapters for path in other.modules} - adapter.modules.keys()
        if missing:
            notes.append(
                f"{adapter.ref} has no update for {len(missing)} of the modules that others change "
                f"({min(missing)}{', …' if len(missing) > 1 else ''}): zero there."
            )
    return notes
