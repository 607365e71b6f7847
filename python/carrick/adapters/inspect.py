"""What an adapter holds, from its headers alone: modules by type, ranks, scales, and what was trained beside."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from carrick.adapters.adapter import read_adapter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.module import LoraModule
    from carrick.checkpoints import StoredTensor


@dataclass
class ModuleGroup:
    """Modules of one type that are alike: name, kind, rank, α, shape of ΔW, element type."""

    type: str
    kind: str
    rank: int
    alpha: float
    scale: float
    shape: tuple[int, int]
    dtype: str
    modules: int = 0
    parameters: int = 0
    nbytes: int = 0


@dataclass
class Extras:
    """Tensors of one sort that stand beside the modules, by the base's names."""

    sort: str
    names: list[str] = field(default_factory=list)
    parameters: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class AdapterInspection:
    """What `inspect` found.

    Attributes
    ----------
    name
        As the adapter was asked for.
    base, base_revision, task
        What adapter_config.json says of the base and the task, None where it says nothing.
    r, lora_alpha, rslora, dora, lora_bias, bias, fan_in_fan_out
        Settings that hold for all modules.
    rank_pattern, alpha_pattern
        Those that hold for some.
    groups, extras
        Modules by type; modules_to_save, weights of the base, biases and trained tokens.
    modules, parameters, nbytes
        How many modules; elements and bytes of everything.
    files
        Size of each safetensors file in bytes.
    revision
        The commit of a Hub snapshot.
    notes
        What a user should know.
    """

    name: str
    base: str | None
    base_revision: str | None
    task: str | None
    r: int
    lora_alpha: float
    rslora: bool
    dora: bool
    lora_bias: bool
    bias: str
    fan_in_fan_out: bool
    rank_pattern: dict[str, int]
    alpha_pattern: dict[str, float]
    groups: list[ModuleGroup]
    extras: list[Extras]
    modules: int
    parameters: int
    nbytes: int
    files: dict[str, int]
    revision: str | None
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def inspect(
    path: str | Path, *, name: str | None = None, revision: str | None = None, download: bool = False
) -> AdapterInspection:
    """Describe an adapter.

    Parameters are those of `carrick.adapters.read`.

    Raises
    ------
    carrick.errors.FormatError
        No adapter there, or one that cannot be read.

    Examples
    --------
    >>> from carrick.adapters.example import write_example
    >>> _, folder = write_example()
    >>> group = inspect(folder).groups[0]
    >>> group.type, group.modules, group.rank, group.scale, group.shape
    ('q', 1, 1, 2.0, (2, 3))
    """
    adapter = read_adapter(path, name=name, revision=revision, download=download)
    config, stored = adapter.config, adapter.checkpoint.tensors.values()
    return AdapterInspection(
        name=str(path) if name is None else f"{path} ({name})",
        base=config.base_model_name_or_path,
        base_revision=config.revision,
        task=config.task_type,
        r=config.r,
        lora_alpha=config.lora_alpha,
        rslora=config.use_rslora,
        dora=config.use_dora,
        lora_bias=config.lora_bias,
        bias=config.bias,
        fan_in_fan_out=config.fan_in_fan_out,
        rank_pattern=config.rank_pattern,
        alpha_pattern=config.alpha_pattern,
        groups=_groups(adapter.modules.values()),
        extras=_extras(adapter),
        modules=len(adapter.modules),
        parameters=sum(tensor.elements for tensor in stored),
        nbytes=sum(tensor.nbytes for tensor in stored),
        files={record.path.replace("\\", "/").rsplit("/", 1)[-1]: record.size for record in adapter.files},
        revision=adapter.revision,
        notes=list(adapter.notes),
    )


def _groups(modules: Iterable[LoraModule]) -> list[ModuleGroup]:
    """Sum up modules that have the last part of their path and all numbers in common, those of a type together."""
    groups: dict[tuple[Any, ...], ModuleGroup] = {}
    for module in modules:
        dtypes = dict.fromkeys([module.a.dtype, module.b.dtype])
        group = ModuleGroup(
            type=module.path.rpartition(".")[2],
            kind=module.kind,
            rank=module.rank,
            alpha=module.alpha,
            scale=module.scale,
            shape=(module.out_features, module.in_features),
            dtype=" ".join(dtypes),
        )
        key = (group.type, group.kind, group.rank, group.alpha, group.shape, group.dtype)
        group = groups.setdefault(key, group)
        group.modules += 1
        for tensor in (module.a, module.b, module.bias, module.magnitude):
            if tensor is not None:
                group.parameters += tensor.elements
                group.nbytes += tensor.nbytes
    types = list(dict.fromkeys(group.type for group in groups.values()))
    return sorted(groups.values(), key=lambda group: types.index(group.type))


def _extras(adapter: Adapter) -> list[Extras]:
    rows = {name: tokens.rows for name, tokens in adapter.tokens.items()}
    trained = {name: tensor for name, tensor in adapter.saved.items() if name not in adapter.carried}
    sorts = (
        ("modules_to_save", trained),
        ("of the base", {name: adapter.saved[name] for name in adapter.saved if name in adapter.carried}),
        ("biases", adapter.biases),
        ("trained tokens", rows),
    )
    return [_sum_up(sort, tensors) for sort, tensors in sorts if tensors]


def _sum_up(sort: str, tensors: dict[str, StoredTensor]) -> Extras:
    held = tensors.values()
    return Extras(sort, list(tensors), sum(t.elements for t in held), sum(t.nbytes for t in held))
