"""Adapters of one base that were trained through different classes, brought to the same module paths.

`AutoModel` has `layers.0…` where `AutoModelForCausalLM` has `model.layers.0…`; PEFT loads the one or the other, and
what has the other's paths is lost without a word. The longer paths count: those of the class that has a task.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carrick.adapters.write import OF_TASK
from carrick.checkpoints import locate
from carrick.errors import PlanError
from carrick.plan.roles import EMBEDDINGS, role_outside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.config import AdapterConfig

# Modules that a class adds to the bare model, and which no prefix belongs before.
_HEADS = {"classifier", "cls", "lm_head", "qa_outputs", "score"}
_INSTEAD = (
    "which of their modules are the same is not certain; put each on the base by itself (BASE+ADAPTER, --base BASE), "
    "or rename the keys of one"
)


def in_one_form(adapters: Sequence[Adapter]) -> tuple[list[Adapter], list[str]]:
    """Give adapters whose paths lack a leading part that others have these longer paths.

    Parameters
    ----------
    adapters
        Those that belong together.

    Returns
    -------
    The adapters, and a sentence about each that was changed.

    Raises
    ------
    PlanError
        It is not certain which module is which.

    Examples
    --------
    >>> from carrick.adapters.adapter import read_adapter
    >>> from carrick.adapters.example import write_example
    >>> adapter = read_adapter(write_example()[1])
    >>> longer = _under("transformer", adapter, adapter)
    >>> [list(one.modules) for one in in_one_form([adapter, longer])[0]]
    [['transformer.h.0.q'], ['transformer.h.0.q']]
    """
    stems = [_stems(adapter) for adapter in adapters]
    found: list[Adapter] = []
    notes = []
    for adapter, own in zip(adapters, stems, strict=True):
        longer = _longer(own, stems)
        if not longer:
            found.append(adapter)
            continue
        prefix = max(longer, key=len)
        other, stem = longer[prefix]
        forms = f"{adapter.ref} has {stem}… and {adapters[other].ref} has {prefix}.{stem}…"
        for each in longer:
            if not f".{prefix}".endswith(f".{each}"):
                raise PlanError(f"{forms}, and others {each}.{stem}…: {_INSTEAD}")
        _refuse_unclear(adapter, adapters, other, forms)
        found.append(_under(prefix, adapter, adapters[other]))
        notes.append(
            f"{forms}: they were trained through different classes of the model. Their modules are matched, under "
            "the longer names."
        )
    stems = [_stems(adapter) for adapter in found]
    for adapter, own in zip(adapters, stems, strict=True):
        for prefix, (other, stem) in _longer(own, stems).items():
            raise PlanError(
                f"{adapter.ref} has {stem}… and {adapters[other].ref} has {prefix}.{stem}…: {_INSTEAD}"
            )
    return found, notes


def _names(adapter: Adapter) -> list[str]:
    """Names of all tensors of the base that an adapter changes."""
    modules = [f"{path}.weight" for path in [*adapter.modules, *adapter.tokens]]
    return list(dict.fromkeys([*modules, *adapter.saved, *adapter.biases]))


def _stems(adapter: Adapter) -> set[str]:
    """Find what tells the form of an adapter: its stacks of layers, and its embeddings outside of these.

    Another module says nothing: `fc` and `sub.fc` are two modules of one model.
    """
    stems = set()
    for name in _names(adapter):
        place = locate(name)
        if place is not None:
            stems.add(place.prefix)
        elif role_outside(name) == EMBEDDINGS:
            stems.add(name.rpartition(".")[0])
    return stems


def _longer(own: set[str], everyone: Sequence[set[str]]) -> dict[str, tuple[int, str]]:
    """Find what may lack before the paths of an adapter: who has it, and before which stem.

    Two stems of one adapter are two parts of the model, however alike they are.
    """
    found: dict[str, tuple[int, str]] = {}
    for number, others in enumerate(everyone):
        for stem in sorted(own):
            for other in sorted(others):
                apart = any({stem, other} <= stems for stems in everyone)
                if other.endswith(f".{stem}") and not apart:
                    found.setdefault(other.removesuffix(f".{stem}"), (number, stem))
    return found


def _refuse_unclear(adapter: Adapter, adapters: Sequence[Adapter], other: int, forms: str) -> None:
    """Raise where a part of an adapter has the form that the whole seems not to have."""
    theirs = set(_names(adapters[other]))
    for name in _names(adapter):
        if name in theirs:
            raise PlanError(f"{forms}, yet both have {name}: {_INSTEAD}")
        if name.partition(".")[0] in _HEADS:
            raise PlanError(
                f"{forms}, yet {adapter.ref} also has {name}, which no bare model has: {_INSTEAD}"
            )


def _under(prefix: str, adapter: Adapter, like: Adapter) -> Adapter:
    """Return an adapter with a prefix before all paths, of the class that `like` belongs to; the files stay as is."""

    def longer(held: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{prefix}.{name}": value for name, value in held.items()}

    modules = [replace(module, path=f"{prefix}.{path}") for path, module in adapter.modules.items()]
    return replace(
        adapter,
        config=_of_class(adapter.config, like.config),
        modules={module.path: module for module in modules},
        saved=longer(adapter.saved),
        carried=set(longer(dict.fromkeys(adapter.carried))),
        biases=longer(adapter.biases),
        tokens=longer(adapter.tokens),
        keys=longer(adapter.keys),
    )


def _of_class(config: AdapterConfig, like: AdapterConfig) -> AdapterConfig:
    """Take over which class the adapter is loaded into; ranks and scales are in the modules by now."""
    raw = config.raw | {key: like.raw.get(key) for key in OF_TASK if key in config.raw or key in like.raw}
    return replace(config, raw=raw, task_type=like.task_type)
