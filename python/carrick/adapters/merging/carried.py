"""Embeddings that adapters hold untrained: PEFT stores them beside LoRA on them, and of a resized vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.adapters.merging.tokens import holders_of
from carrick.adapters.write import plain_name
from carrick.errors import PlanError
from carrick.plan.same_bytes import same_bytes
from carrick.plan.vocabulary import resizes

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.adapters.merging.outputs import Outputs
    from carrick.checkpoints import StoredTensor
    from carrick.plan.description import Place


def add_carried(
    lineup: AdapterLineup, outputs: Outputs, written: Collection[str], kept: Sequence[Adapter]
) -> None:
    """Copy each where no module is written that was trained; of those that are kept first.

    Parameters
    ----------
    lineup, outputs
        The merge, whose trained tokens are settled.
    written
        Paths of the modules that get factors.
    kept
        The adapters whose modules and tokens are written.

    Raises
    ------
    PlanError
        Two adapters have them of vocabularies of different sizes, and neither is the one that is kept.
    """
    ours = {id(adapter) for adapter in kept}
    seen = {
        name for adapter in kept for name in [*adapter.saved, *adapter.biases] if name not in adapter.carried
    }
    order = sorted(range(len(lineup.adapters)), key=lambda index: id(lineup.adapters[index]) not in ours)
    taken: dict[str, Adapter] = {}
    for index in order:
        adapter = lineup.adapters[index]
        for name in [name for name in adapter.saved if name in adapter.carried and name not in seen]:
            tensor = adapter.saved[name]
            first = taken.setdefault(name, adapter)
            if first is adapter:
                key = plain_name(name, written, outputs.tokens)
                outputs.add_copy(key, tensor.shape, lineup.place(index, tensor))
            elif tensor.shape != first.saved[name].shape and ours != {id(first)}:
                raise PlanError(_differ(name, first, adapter))
            elif difference := _difference(name, first, adapter):
                outputs.notes.append(
                    f"{name}, which was not trained, {difference}: that of {first.ref} is written."
                )


def _difference(name: str, first: Adapter, other: Adapter) -> str | None:
    """Say how untrained weights of two adapters differ; a sample of them tells whether they come of one base."""
    mine, theirs = first.saved[name], other.saved[name]
    if mine.dtype != theirs.dtype and mine.shape == theirs.shape:
        return f"is {mine.dtype} in {first.ref} and {theirs.dtype} in {other.ref}"
    if same_bytes(first.checkpoint, mine, other.checkpoint, theirs, sample=True) is False:
        return f"differs between {first.ref} and {other.ref}"
    return None


def _differ(name: str, first: Adapter, adapter: Adapter) -> str:
    shapes = [one.saved[name].shape for one in (first, adapter)]
    why = "the vocabulary was resized for one of them" if resizes(name, *shapes) else "their bases differ"
    return (
        f"{name}: has the shape {list(shapes[0])} in {first.ref} and {list(shapes[1])} in {adapter.ref}: {why}, and "
        "one adapter holds one; leave one of the two out, or keep that of one with --modules-to-save ADAPTER"
    )


def carried_by_all(lineup: AdapterLineup, path: str) -> tuple[StoredTensor, Place] | None:
    """Return the weights of a module from before the training, where all that trained rows of it hold the same."""
    holders = holders_of(lineup.adapters, path)
    name = f"{path}.weight"
    if not all(name in adapter.carried for adapter in holders.values()):
        return None
    (index, first), *others = holders.items()
    tensor = first.saved[name]
    alike = all(
        tensor.shape == other.saved[name].shape
        and same_bytes(first.checkpoint, tensor, other.checkpoint, other.saved[name]) is not False
        for _, other in others
    )
    return (tensor, lineup.place(index, tensor)) if alike else None
