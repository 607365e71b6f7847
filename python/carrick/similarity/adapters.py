"""Adapters side by side: which modules are compared, and what their configurations say about comparing them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.errors import ConfigError, FormatError
from carrick.progress import Progress
from carrick.similarity.checkpoints import compile_patterns

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.module import LoraModule
    from carrick.similarity.sums import PairSums


@dataclass
class Modules:
    """The modules that are compared, each as one of the adapters has it, and why others are not."""

    modules: dict[str, LoraModule]
    notes: list[str] = field(default_factory=list)


def line_up(adapters: Sequence[Adapter], exclude: Sequence[str] = ()) -> Modules:
    """Find the modules of all adapters; one that an adapter does not have is zero there.

    Parameters
    ----------
    adapters
        The adapters.
    exclude
        Regular expressions, searched in the modules' paths.

    Raises
    ------
    ConfigError
        DoRA, a pattern that is no regular expression or misspells a name, or nothing to compare.
    FormatError
        A module with different shapes.
    """
    # Whole weights are left out anyway; to exclude them is no mistake.
    held = [
        name
        for each in adapters
        for kept in (each.modules, each.saved, each.biases, each.tokens)
        for name in kept
    ]
    patterns, idle = compile_patterns(exclude, held, "module")
    modules: dict[str, LoraModule] = {}
    owners: dict[str, Adapter] = {}
    for adapter in adapters:
        for path, module in adapter.modules.items():
            if any(pattern.search(path) for pattern in patterns):
                continue
            _require_plain(adapter, module)
            _require_same_shape(
                modules.setdefault(path, module), owners.setdefault(path, adapter), module, adapter
            )
    if not modules:
        raise ConfigError(
            "no LoRA module is left to compare; exclude less, or give adapters with LoRA modules"
        )
    return Modules(modules, [*_notes(adapters, modules, patterns), *idle])


def _require_plain(adapter: Adapter, module: LoraModule) -> None:
    if module.magnitude is not None:
        raise ConfigError(
            f"{adapter.ref}: {module.path} is DoRA, whose change of the weights depends on the base; give the "
            "adapters on it (BASE+ADAPTER), with --base BASE"
        )


def _require_same_shape(first: LoraModule, owner: Adapter, module: LoraModule, adapter: Adapter) -> None:
    shapes = [(m.out_features, m.in_features) for m in (first, module)]
    if shapes[0] != shapes[1]:
        raise FormatError(
            f"{adapter.ref}: {module.path} changes a weight of {list(shapes[1])} (outputs, inputs), and of "
            f"{list(shapes[0])} in {owner.ref}; compare adapters of one base, or leave the module out with --exclude"
        )


def _notes(
    adapters: Sequence[Adapter], modules: dict[str, LoraModule], patterns: Sequence[re.Pattern[str]]
) -> Iterable[str]:
    bases = {adapter.config.base_model_name_or_path for adapter in adapters} - {None}
    if len(bases) > 1:
        yield f"the adapters belong to different bases ({', '.join(sorted(map(str, bases)))})"
    for adapter in adapters:
        yield from adapter.notes
        missing = [path for path in modules if path not in adapter.modules]
        if missing:
            yield f"{adapter.ref}: has no {_named(missing)}, which count as zero there"
        whole = [*adapter.saved, *adapter.biases, *(f"{path} (rows)" for path in adapter.tokens)]
        if whole:
            yield (
                f"{adapter.ref}: left out, whole weights and no LoRA: {_named(whole)}; they count where the adapters "
                "are given on their base (BASE+ADAPTER, with --base BASE)"
            )
        excluded = [path for path in adapter.modules if any(p.search(path) for p in patterns)]
        if excluded:
            yield f"{adapter.ref}: left out, excluded: {_named(excluded)}"


def _named(names: Sequence[str]) -> str:
    return ", ".join(names[:2]) + (f" and {len(names) - 2} more" if len(names) > 2 else "")


def measure(
    adapters: Sequence[Adapter],
    weights: Sequence[float],
    modules: dict[str, LoraModule],
    progress: Callable[[Progress], None] | None,
    *,
    signs: bool,
) -> dict[str, PairSums]:
    """Take the sums of every module, one after the other; a bias of B is an entry of its own.

    `weights` are factors of all that an adapter adds.
    """
    from carrick.similarity.factors import pair_sums, read_factors  # noqa: PLC0415  (needs NumPy)

    sizes = {path: sum(_nbytes(adapter, path) for adapter in adapters) for path in modules}
    done, total = 0, sum(sizes.values())
    found: dict[str, PairSums] = {}
    for count, (path, module) in enumerate(modules.items()):
        if progress is not None:
            progress(Progress(done, total, count, len(modules), path, "compare"))
        parts = [
            read_factors(adapter, path, weight) if path in adapter.modules else None
            for adapter, weight in zip(adapters, weights, strict=True)
        ]
        found[path] = pair_sums(parts, module, signs=signs)
        bias = _bias_sums(adapters, weights, path, signs=signs)
        if bias is not None:
            found[f"{path}.bias"] = bias
        done += sizes[path]
    return found


def _nbytes(adapter: Adapter, path: str) -> int:
    module = adapter.modules.get(path)
    return module.a.nbytes + module.b.nbytes if module else 0


def _bias_sums(
    adapters: Sequence[Adapter], weights: Sequence[float], path: str, *, signs: bool
) -> PairSums | None:
    from carrick.adapters.finite import read_finite  # noqa: PLC0415  (adapters import NumPy with it)
    from carrick.similarity.factors import vector_sums  # noqa: PLC0415

    vectors: list[NDArray[np.float64] | None] = []
    for adapter, weight in zip(adapters, weights, strict=True):
        module = adapter.modules.get(path)
        if module is None or module.bias is None:
            vectors.append(None)
        else:
            values = read_finite(adapter, module.bias, f"{path}.lora_B.bias")
            vectors.append(values.astype("float64") * (weight * module.scale))
    lengths = [len(vector) for vector in vectors if vector is not None]
    return vector_sums(vectors, lengths[0], signs=signs) if lengths else None
