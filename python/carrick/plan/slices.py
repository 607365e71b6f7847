"""`slices`: layers of several models stacked or merged into new numbers.

Layer ranges count the layers of each model's main stack. What stands before the layers (embeddings, a vision
tower) comes from the models of the first slice, what stands after them (final norm, head) from those of the
last slice. What only other models hold there has no place: it is listed as left out, and refused where
config.json, which describes it, comes from that very model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.checkpoints.layers import Stack, locate
from carrick.config import Position
from carrick.errors import PlanError
from carrick.plan.match import Matched, Spot, Target, add_target, check_fit
from carrick.plan.roles import EMBEDDINGS, role_outside
from carrick.plan.tied import VOCABULARY_HEAD

if TYPE_CHECKING:
    from carrick.config import Document, Slice
    from carrick.plan.lineup import Lineup, Model, Models


def match_slices(document: Document, models: Models, *, tied: bool = False) -> Matched:
    """Lay out the output of `slices`: renumbered layers, and what stands before and after them.

    Parameters
    ----------
    document, models
        The merge, and the models that it names.
    tied
        The output's head is its embeddings: a head of a model that gives no weights is not missed.

    Raises
    ------
    PlanError
        A model without layers or with several stacks alike, a range beyond a model's layers, tensors that
        not every source of a slice holds, or tensors of config.json's donor that no slice takes.
    """
    stacks = _Stacks(models)
    matched = Matched()
    prefix = stacks.main(models.donor).prefix
    lineups = [models.lineup(part) for part in document.parts]
    total = sum(part.layers or 0 for part in document.parts)
    _outside(document, matched, stacks, lineups[0], before=True, rank=0, total=total)
    number = 0
    for slice_index, (part, lineup) in enumerate(zip(document.parts, lineups, strict=True)):
        starts = _starts(part, lineup, stacks)
        for layer in range(part.layers or 0):
            position = Position.layer(slice_index, layer, part.layers or 0)
            held = [stacks.layer(m, start + layer) for m, start in zip(lineup.everyone, starts, strict=True)]
            for suffix in dict.fromkeys(s for names in held for s in names):
                names = [names.get(suffix, "") for names in held]
                tensors = [model.get(name) for model, name in zip(lineup.everyone, names, strict=True)]
                first = next(t for t in tensors if t is not None)
                order = (1 + slice_index, first.file, first.begin)
                name = f"{prefix}.{number}.{suffix}"
                add_target(document, matched, lineup, Spot(name, names, tensors, position, order))
            number += 1
    _outside(document, matched, stacks, lineups[-1], before=False, rank=1 + len(lineups), total=total)
    _left_over(document, matched, stacks, models, lineups, tied=tied)
    check_fit(matched, models.donor, "only layers of models of one size can be stacked")
    return matched


def layer_map(document: Document, models: Models) -> list[tuple[Model, int]]:
    """For every output layer, the model and layer whose configuration it takes: the slice's first source."""
    pairs: list[tuple[Model, int]] = []
    for part in document.parts:
        first = part.sources[0]
        start, end = first.layer_range or (0, part.layers or 0)
        pairs.extend((models.by_ref[first.ref], layer) for layer in range(start, end))
    return pairs


class _Stacks:
    """The main stack of each model, its tensors by layer, and its tensors outside it."""

    def __init__(self, models: Models) -> None:
        self._layers: dict[int, dict[int, dict[str, str]]] = {}
        self._outside: dict[int, list[str]] = {}
        for model in models.distinct:
            self._index(model, self.main(model))

    def main(self, model: Model) -> Stack:
        stack = model.checkpoint.main_stack
        if stack is not None:
            return stack
        found = model.checkpoint.stacks
        if not found:
            raise PlanError(
                f"{model.ref}: has no numbered layers, so `slices` cannot be applied; use `models`"
            )
        listed = ", ".join(f"{s.prefix} ({s.count} layers)" for s in found)
        raise PlanError(
            f"{model.ref}: has several stacks of layers ({listed}); `slices` apply to the main stack, and "
            f"none of these "
            "is it; use `models`"
        )

    def layer(self, model: Model, number: int) -> dict[str, str]:
        return self._layers[id(model)].get(number, {})

    def outside(self, model: Model) -> list[str]:
        return self._outside[id(model)]

    def _index(self, model: Model, stack: Stack) -> None:
        layers: dict[int, dict[str, str]] = {}
        outside: list[str] = []
        for name in model.names():
            place = locate(name)
            if place is not None and place.prefix == stack.prefix and place.number < stack.count:
                layers.setdefault(place.number, {})[place.suffix] = name
            else:
                outside.append(name)
        self._layers[id(model)] = layers
        self._outside[id(model)] = outside


def _starts(part: Slice, lineup: Lineup, stacks: _Stacks) -> list[int]:
    """First layer of each source, base first; every range checked against its model."""
    written = [s.layer_range for s in part.merged if s.layer_range is not None]
    sources = [part.base, *part.merged] if part.base else list(part.merged)
    starts: list[int] = []
    for source, model in zip(sources, lineup.everyone, strict=True):
        chosen = source.layer_range
        if chosen is None:  # the base that `base_model` names, not listed in the slice
            if len(set(written)) > 1:
                raise PlanError(
                    f"{model.ref}: the sources of a slice take different layers ({_ranges(written)}), so "
                    f"the base's "
                    "are not clear; list it in the slice with its layer_range"
                )
            chosen = written[0]
        count = stacks.main(model).count
        if chosen[1] > count:
            raise PlanError(
                f"{model.ref}: layer_range [{chosen[0]}, {chosen[1]}] ends behind its {count} layers; "
                f"the end is not included, so it may be {count} at most"
            )
        starts.append(chosen[0])
    return starts


def _ranges(ranges: list[tuple[int, int]]) -> str:
    return ", ".join(f"[{a}, {b}]" for a, b in dict.fromkeys(ranges))


def _outside(
    document: Document,
    matched: Matched,
    stacks: _Stacks,
    lineup: Lineup,
    *,
    before: bool,
    rank: int,
    total: int,
) -> None:
    position = Position.before(0) if before else Position.after(len(document.parts) - 1)
    everyone = lineup.everyone
    for name in dict.fromkeys(n for model in everyone for n in stacks.outside(model)):
        if _stands_before(document, name, stacks, everyone[0]) != before:
            continue
        tensors = [model.get(name) for model in everyone]
        first = next(t for t in tensors if t is not None)
        order = (rank, first.file, first.begin)
        renamed = _appended(name, stacks.main(everyone[0]), total)
        spot = Spot(renamed, [name] * len(everyone), tensors, position, order)
        add_target(document, matched, lineup, spot)


def _left_over(
    document: Document,
    matched: Matched,
    stacks: _Stacks,
    models: Models,
    lineups: list[Lineup],
    *,
    tied: bool,
) -> None:
    """List what stands outside the layers of the donor and of middle slices, and has no place in the output."""
    total = sum(part.layers or 0 for part in document.parts)
    placed = {target.name for target in matched.targets} | {str(one["tensor"]) for one in matched.unmatched}
    found: dict[str, list[tuple[Model, str]]] = {}
    for model in models.distinct:
        for name in stacks.outside(model):
            renamed = _appended(name, stacks.main(model), total)
            if renamed not in placed and not (tied and VOCABULARY_HEAD.search(name)):
                found.setdefault(renamed, []).append((model, name))
    for renamed, holders in found.items():
        model, name = holders[0]  # the donor comes first
        record: dict[str, object] = {"tensor": renamed, "held_by": [held.ref for held, _ in holders]}
        matched.unmatched.append(record)
        tensor = model.get(name)
        if tensor is None or model is not models.donor:
            record["action"] = "left out"
            continue
        before = _stands_before(document, name, stacks, model)
        if document.extra_tensors == "error":
            raise PlanError(
                f"tensor {name!r} is in {model.ref}, which gives config.json, but not in the models of the "
                f"{'first' if before else 'last'} slice, which give what stands {'before' if before else 'after'} "
                "the layers; `extra_tensors: base` copies it"
            )
        record["action"] = f"copied from {model.ref}"
        position = Position.before(0) if before else Position.after(len(document.parts) - 1)
        order = (0 if before else 1 + len(lineups), tensor.file, tensor.begin)
        lineup = lineups[0 if before else -1]
        matched.targets.append(Target(renamed, position, lineup, [name], [tensor], order, model))


def _stands_before(document: Document, name: str, stacks: _Stacks, model: Model) -> bool:
    place = locate(name)
    if place is not None and place.prefix == stacks.main(model).prefix:
        return False  # a prediction layer appended to the stack
    other_stack = place is not None and any(s.prefix == place.prefix for s in model.checkpoint.stacks)
    return other_stack or role_outside(name, document.roles) == EMBEDDINGS


def _appended(name: str, stack: Stack, total: int) -> str:
    place = locate(name)
    if place is None or place.prefix != stack.prefix:
        return name
    return f"{stack.prefix}.{place.number - stack.count + total}.{place.suffix}"
