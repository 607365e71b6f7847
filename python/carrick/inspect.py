"""What a checkpoint holds, from its headers alone: tensors, element types, layers, kind of model."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from carrick.checkpoints import Checkpoint, find, locate

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.checkpoints import Stack


@dataclass(frozen=True)
class TensorSummary:
    """One tensor: where it is and how large it is."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    file: str


@dataclass
class Group:
    """Tensors that are summed up in one row: an element type, a run of equal layers, or one module.

    ``layers`` is the number of layers in a run, 0 for everything else.
    """

    label: str
    dtypes: list[str] = field(default_factory=list)
    layers: int = 0
    tensors: int = 0
    elements: int = 0
    nbytes: int = 0

    def add(self, dtype: str, elements: int, nbytes: int) -> None:
        """Count one more tensor."""
        if dtype not in self.dtypes:
            self.dtypes.append(dtype)
        self.tensors += 1
        self.elements += elements
        self.nbytes += nbytes


@dataclass(frozen=True)
class Inspection:
    """What :func:`inspect` found.

    Attributes
    ----------
    name
        As the checkpoint was asked for.
    kind
        What kind of model: ``llama (LlamaForCausalLM)``, or that nothing says.
    layers
        Layers of each stack by the prefix of their names.
    tied
        Whether config.json ties the embeddings, None where it does not say.
    quantization
        The method that config.json names, None without one.
    files, tensors, by_dtype, by_group
        Files by name and size in bytes; every tensor; the sums per element type and per run of equal layers.
    notes
        What a user should know about how the files were chosen.
    """

    name: str
    kind: str
    layers: dict[str, int]
    tied: bool | None
    quantization: str | None
    revision: str | None
    files: dict[str, int]
    tensors: list[TensorSummary]
    by_dtype: list[Group]
    by_group: list[Group]
    notes: list[str]

    @property
    def elements(self) -> int:
        """Number of elements of all tensors (parameters, and buffers where there are any)."""
        return sum(group.elements for group in self.by_dtype)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(group.nbytes for group in self.by_dtype)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "elements": self.elements, "nbytes": self.nbytes}


def inspect(path: str | Path, *, download: bool = False) -> Inspection:
    """Describe a model folder, a safetensors file, or a Hub id that is in the local cache.

    Parameters
    ----------
    path
        What is described.
    download
        Fetch a Hub id that is not in the cache.

    Raises
    ------
    FormatError
        When nothing is there, or a file is malformed.

    Examples
    --------
    >>> import numpy as np, pathlib, safetensors.numpy, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "model.safetensors")
    >>> safetensors.numpy.save_file({"w": np.zeros((2, 3), np.float32)}, path)
    >>> found = inspect(path)
    >>> found.elements, found.nbytes, found.by_dtype[0].label
    (6, 24, 'F32')
    """
    checkpoint = find(str(path), download=download)
    files = [record.path.replace("\\", "/").rsplit("/", 1)[-1] for record in checkpoint.files]
    return Inspection(
        name=str(path),
        kind=kind_of(checkpoint),
        layers={stack.prefix: stack.count for stack in checkpoint.stacks},
        tied=checkpoint.tie_word_embeddings,
        quantization=_quantization(checkpoint),
        revision=checkpoint.revision,
        files={name: record.size for name, record in zip(files, checkpoint.files, strict=True)},
        tensors=[
            TensorSummary(name, t.dtype, t.shape, t.nbytes, files[t.file])
            for name, t in checkpoint.tensors.items()
        ],
        by_dtype=_by_dtype(checkpoint),
        by_group=_by_group(checkpoint),
        notes=list(checkpoint.notes),
    )


def kind_of(checkpoint: Checkpoint) -> str:
    """Tell what kind of model config.json says this is, such as ``llama (LlamaForCausalLM)``."""
    named = (checkpoint.config or {}).get("architectures")
    architecture = named[0] if isinstance(named, list) and named else None
    if checkpoint.config is None:
        return "unknown (no config.json)"
    if checkpoint.kind is None and architecture is None:
        return "unknown (config.json names none)"
    return " ".join(filter(None, [checkpoint.kind, f"({architecture})" if architecture else None]))


def _quantization(checkpoint: Checkpoint) -> str | None:
    found = checkpoint.quantization_config
    return None if found is None else str(found.get("quant_method", "unnamed"))


def _by_dtype(checkpoint: Checkpoint) -> list[Group]:
    groups: dict[str, Group] = {}
    for tensor in checkpoint.tensors.values():
        group = groups.setdefault(tensor.dtype, Group(tensor.dtype))
        group.add(tensor.dtype, tensor.elements, tensor.nbytes)
    return sorted(groups.values(), key=lambda group: -group.nbytes)


def _by_group(checkpoint: Checkpoint) -> list[Group]:
    """Sum up runs of equal layers, and each module outside of them, in file order."""
    groups: dict[str, Group] = {}
    runs = {stack.prefix: _runs(checkpoint, stack) for stack in checkpoint.stacks}
    for name, tensor in checkpoint.tensors.items():
        place = locate(name)
        run = runs.get(place.prefix, {}).get(place.number) if place else None
        if place and run:
            first, last = run
            label = f"{place.prefix}.{first}" + (f" … {last}" if last > first else "")
            group = groups.setdefault(label, Group(label, layers=last - first + 1))
        else:
            label = name.rpartition(".")[0] or name
            group = groups.setdefault(label, Group(label))
        group.add(tensor.dtype, tensor.elements, tensor.nbytes)
    return list(groups.values())


def _runs(checkpoint: Checkpoint, stack: Stack) -> dict[int, tuple[int, int]]:
    """Map each layer to the first and last of the run of equal layers (names, types, shapes) it is in."""
    content: dict[int, set[tuple[str, str, tuple[int, ...]]]] = {}
    for name, tensor in checkpoint.tensors.items():
        place = locate(name)
        if place and place.prefix == stack.prefix:
            content.setdefault(place.number, set()).add((place.suffix, tensor.dtype, tensor.shape))
    runs: dict[int, tuple[int, int]] = {}
    first = 0
    for number in range(1, stack.count + 1):
        if number == stack.count or content.get(number) != content.get(first):
            runs.update(dict.fromkeys(range(first, number), (first, number - 1)))
            first = number
    return runs
