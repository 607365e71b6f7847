"""Trained tokens of several adapters: the union of their rows, each merged relative to the base's row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from carrick.adapters.keys import find_name
from carrick.adapters.write import tokens_name
from carrick.checkpoints.element_types import is_float
from carrick.errors import PlanError
from carrick.plan.description import Description, Replaced
from carrick.plan.job import Input, Job
from carrick.plan.rows import row_blocks
from carrick.plan.tied import VOCABULARY_HEAD
from carrick.plan.vocabulary import RESIZE_FIRST

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.adapters.merging.outputs import Outputs
    from carrick.checkpoints import Checkpoint, StoredTensor
    from carrick.plan.description import Place

_INSTEAD = "keep those of another adapter with --modules-to-save ADAPTER, or merge into the base (--base BASE --dense)"


def holders_of(adapters: Sequence[Adapter], path: str) -> dict[int, Adapter]:
    """Return the adapters that have trained tokens of a module, by their place in the list."""
    return {index: adapter for index, adapter in enumerate(adapters) if path in adapter.tokens}


def union_of(adapters: Sequence[Adapter], path: str) -> tuple[int, ...]:
    """Return the rows that any of the adapters trained, in rising order."""
    return tuple(sorted({n for a in adapters if path in a.tokens for n in a.tokens[path].indices}))


def merge_rows(
    lineup: AdapterLineup, outputs: Outputs, path: str, base: tuple[StoredTensor, Place], weights: list[float]
) -> None:
    """Add the rows of one module: base + Σ wᵢ·(rowᵢ − base), an adapter's row being the base's where it has none.

    Parameters
    ----------
    lineup, outputs
        The merge.
    path
        The module.
    base
        The base's tensor, and where it lies among the files of the plan.
    weights
        Of each adapter, λ included.

    Raises
    ------
    PlanError
        The base's tensor has another width, lacks some of the rows, or holds integers.
    """
    stored, place = base
    rows = union_of(lineup.adapters, path)
    holders = holders_of(lineup.adapters, path)
    for adapter in holders.values():
        _check_shape(path, adapter, stored)
    columns = stored.shape[1]
    held = {index: adapter.tokens[path] for index, adapter in holders.items()}
    types = {stored.dtype, *(tokens.rows.dtype for tokens in held.values())}
    real: Literal["F32", "F64"] = "F64" if "F64" in types else "F32"

    def start() -> Description:
        described = Description(len(rows), columns, dtype=real)
        described.blocks = row_blocks(place, columns, enumerate(rows))
        return described

    numbers = {row: number for number, row in enumerate(rows)}
    inputs = [Input(start(), base=True)]
    for index, tokens in held.items():
        own = start()
        own.replaced = Replaced(
            lineup.place(index, tokens.rows), tuple(numbers[row] for row in tokens.indices)
        )
        inputs.append(Input(own, index=index, parameters={"weight": weights[index]}))
    dtype = outputs.type_of(next(iter(held.values())).rows.dtype)
    options: dict[str, float | bool | str] = {"normalize": False, "lambda": 1.0}
    shape = (len(rows), columns)
    outputs.jobs.append(Job(tokens_name(path), shape, dtype, "task_arithmetic", options, inputs))
    outputs.tokens[path] = rows


def _check_shape(path: str, adapter: Adapter, stored: StoredTensor) -> None:
    tokens = adapter.tokens[path]
    last = max(tokens.indices, default=0)
    if len(stored.shape) != 2 or tokens.rows.shape[1] != stored.shape[1]:
        raise PlanError(
            f"{adapter.ref}: the trained tokens of {path} have {tokens.rows.shape[1]} elements each, and the base's "
            f"tensor has the shape {list(stored.shape)}; give the base that the adapter was trained on"
        )
    for holder, dtype in (("the base", stored.dtype), (adapter.ref, tokens.rows.dtype)):
        if not is_float(dtype):
            raise PlanError(
                f"{path}: is {dtype} in {holder}, and {adapter.ref} has trained tokens of it; their differences need "
                "floating-point weights"
            )
    if last >= stored.shape[0]:
        raise PlanError(
            f"{adapter.ref}: has a trained token {last} of {path}, of which the base has {stored.shape[0]} rows, and "
            f"the adapters do not hold the same others of a resized vocabulary; {RESIZE_FIRST}"
        )


def refuse_beside(lineup: AdapterLineup, kept: Sequence[Adapter], written: Mapping[str, str]) -> None:
    """Raise where rows of a module would stand beside its factors, or beside the module saved whole.

    Parameters
    ----------
    lineup
        The merge.
    kept
        The adapters whose tokens are written.
    written
        Who has the factors of the modules that get some, by the modules' paths.
    """
    for adapter in kept:
        for path in adapter.tokens:
            name = f"{path}.weight"
            # What was not trained is copied, whoever has it.
            whole = [a for a in lineup.adapters if name in a.saved and (name in a.carried or a in kept)]
            if name in adapter.carried:  # the rows stand on this one
                whole = [a for a in whole if name not in a.carried]
            saves = next((a.ref for a in whole if a is not adapter), None)
            other = written.get(path, saves)
            if other is not None:
                has = "has LoRA factors for it" if path in written else "saves it whole"
                raise PlanError(
                    f"{path}: {adapter.ref} has trained tokens of it and {other} {has}, which PEFT loads in no one "
                    f"adapter; {_INSTEAD}"
                )


def refuse_tied_head(adapters: Sequence[Adapter], base: Checkpoint) -> None:
    """Raise where one adapter would hold tokens of embeddings, which a tied head follows, and a head by itself.

    PEFT ties the two unless their tokens differ, and looks for a head that is saved whole under another name.
    """
    paths = {path for adapter in adapters for path in adapter.tokens}
    heads = {path for path in paths if VOCABULARY_HEAD.search(f"{path}.weight")}
    saved = {n for a in adapters for n in a.saved.keys() - a.carried if VOCABULARY_HEAD.search(n)}
    of_words = [a for a in adapters if a.tokens.keys() - heads]
    by_itself = [a for a in adapters if a.tokens.keys() & heads or saved & (a.saved.keys() - a.carried)]
    if not (of_words and by_itself and _ties(base, {f"{path}.weight" for path in heads} | saved)):
        return
    following = [a for a in of_words if a not in by_itself]
    alike = {union_of(adapters, path) for path in heads} & {
        union_of(adapters, path) for path in paths - heads
    }
    if following or saved or alike:
        first = (following or of_words)[0]
        raise PlanError(
            f"{base.ref} ties its head to its embeddings: the head follows the trained tokens of {first.ref}, and "
            f"{by_itself[-1].ref} trained it by itself, which PEFT does not tell apart in one adapter; {_INSTEAD}"
        )


def _ties(base: Checkpoint, heads: Collection[str]) -> bool:
    stated = base.tie_word_embeddings
    return not any(find_name(head, base.tensors) for head in heads) if stated is None else stated
