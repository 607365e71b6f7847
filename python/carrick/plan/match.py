"""Tensors matched by name: which output tensors there will be, and what each is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.checkpoints.layers import locate
from carrick.config import Position
from carrick.errors import PlanError
from carrick.plan.roles import EMBEDDINGS, role_outside

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from carrick.checkpoints.headers import StoredTensor
    from carrick.checkpoints.layers import Stack
    from carrick.config import Document
    from carrick.plan.lineup import Lineup, Model, Models


_UNLIKE = "`base_model` gives config.json, which has to fit the models; name one like them, or leave it out"


@dataclass(slots=True)
class Target:
    """An output tensor to be: its name, its place among the layers, and the tensors it is made of.

    `names` and `tensors` follow the lineup: the base first if there is one, then the merged models. A tensor
    that only some models hold and that a policy copies has `copied_from`, and `names` and `tensors` of that
    model alone.
    """

    name: str
    position: Position
    lineup: Lineup
    names: list[str]
    tensors: list[StoredTensor]
    order: tuple[int, int, int]
    copied_from: Model | None = None


@dataclass(slots=True)
class Matched:
    """What matching found: the targets, and each tensor that not every model holds with its fate."""

    targets: list[Target] = field(default_factory=list)
    unmatched: list[dict[str, object]] = field(default_factory=list)


def match_whole(document: Document, models: Models) -> Matched:
    """Match whole models: every tensor name that any of them holds.

    Raises
    ------
    PlanError
        A tensor that not every model holds, unless `extra_tensors` says what to do.
    ConfigError
        A gradient for a model without layers.
    """
    lineup = models.lineup(document.parts[0])
    donor = models.donor
    stacks = donor.checkpoint.stacks or lineup.everyone[0].checkpoint.stacks
    if document.gradients and not stacks:
        raise document.gradients[0].where.error(
            f"a gradient runs over layers, and the names of {donor.checkpoint.ref}'s tensors show none; "
            "give one value, or values by `filter`"
        )
    places = Positions(stacks, document.roles)
    matched = Matched()
    ordered: dict[str, tuple[int, int, int]] = {}
    for rank, model in enumerate([donor, *lineup.everyone]):
        for name in model.names():
            tensor = model.get(name)
            if tensor is not None and name not in ordered:
                ordered[name] = (rank, *model.order_of(name, tensor))
    everyone = lineup.everyone
    in_lineup = any(model is donor for model in everyone)
    for name, order in ordered.items():
        tensors = [model.get(name) for model in everyone]
        if not in_lineup and all(t is None for t in tensors):
            continue  # a donor of configuration alone gives no weights
        spot = Spot(name, [name] * len(everyone), tensors, places.of(name), order)
        add_target(document, matched, lineup, spot)
    if matched.targets and all(target.copied_from is not None for target in matched.targets):
        apart = [f"{next(iter(model.names()), None)!r} in {model.ref}" for model in everyone]
        raise PlanError(
            f"no tensor has the same name in all models ({', '.join(apart)}), so nothing would be merged; give models "
            "that were saved by the same class"
        )
    if not in_lineup:
        check_fit(matched, donor, _UNLIKE)
        _check_depth(everyone[0], donor)
    return matched


def _check_depth(model: Model, donor: Model) -> None:
    counts = {stack.prefix: stack.count for stack in donor.checkpoint.stacks}
    for stack in model.checkpoint.stacks:
        given = counts.get(stack.prefix, stack.count)
        if given != stack.count:
            raise PlanError(f"{model.ref} has {stack.count} layers and {donor.ref} has {given}; {_UNLIKE}")


def check_fit(matched: Matched, donor: Model, why: str) -> None:
    """Refuse tensors that config.json's donor has in another shape; `why` says what has to fit.

    Raises
    ------
    PlanError
        Names a tensor of each.
    """
    shapes: dict[str, dict[tuple[int, ...], str]] = {}
    for name, tensor in donor.checkpoint.tensors.items():
        place = locate(name)
        shapes.setdefault(place.suffix if place else name, {}).setdefault(tensor.shape, name)
    for target in matched.targets:
        place = locate(target.name)
        known = shapes.get(place.suffix if place else target.name)
        shape = target.tensors[0].shape
        if known and shape not in known:
            model = target.copied_from or target.lineup.everyone[0]
            other, name = next(iter(known.items()))
            raise PlanError(
                f"tensor {target.names[0]!r} has the shape {list(shape)} in "
                f"{model.checkpoint.file_of(target.names[0])} and {name!r} has {list(other)} in "
                f"{donor.checkpoint.file_of(name)}; {why}"
            )


@dataclass(slots=True)
class Spot:
    """An output tensor as a matcher found it; `tensors` has a None for each model that lacks it."""

    name: str
    names: list[str]
    tensors: list[StoredTensor | None]
    position: Position
    order: tuple[int, int, int]


def add_target(document: Document, matched: Matched, lineup: Lineup, spot: Spot) -> None:
    """Add a target, or what `extra_tensors` makes of a tensor that not every model holds.

    Raises
    ------
    PlanError
        Some model lacks the tensor, and the policy is `error`.
    """
    tensors, names = spot.tensors, spot.names
    held = [t for t in tensors if t is not None]
    if len(held) == len(tensors):
        matched.targets.append(Target(spot.name, spot.position, lineup, names, held, spot.order))
        return
    everyone = lineup.everyone
    holders = [model.ref for model, t in zip(everyone, tensors, strict=True) if t is not None]
    if document.extra_tensors == "error":
        lacking = [model.ref for model, t in zip(everyone, tensors, strict=True) if t is None]
        raise PlanError(
            f"tensor {spot.name!r} is in {', '.join(holders)} but not in {', '.join(lacking)}; "
            "`extra_tensors: base` keeps the base's tensors, `extra_tensors: first` copies it from the first "
            "model that has it"
        )
    record: dict[str, object] = {"tensor": spot.name, "held_by": holders}
    matched.unmatched.append(record)
    if document.extra_tensors == "base" and tensors[0] is None:
        record["action"] = "left out"
        return
    first = next(i for i, t in enumerate(tensors) if t is not None)
    record["action"] = f"copied from {everyone[first].ref}"
    source = everyone[first]
    matched.targets.append(
        Target(spot.name, spot.position, lineup, [names[first]], [held[0]], spot.order, source)
    )


class Positions:
    """Where tensors stand among the layers, for gradients: before (t = 0), in one, or after (t = 1)."""

    def __init__(self, stacks: list[Stack], roles: Mapping[str, tuple[re.Pattern[str], ...]]) -> None:
        self._counts = {stack.prefix: stack.count for stack in stacks}
        self._roles = roles
        self._before, self._after = Position.before(0), Position.after(0)
        self._layers: dict[tuple[int, int], Position] = {}

    def of(self, name: str) -> Position:
        """Position of a tensor of the only slice there is."""
        place = locate(name)
        count = self._counts.get(place.prefix) if place else None
        if place is None or count is None:
            return self._before if role_outside(name, self._roles) == EMBEDDINGS else self._after
        if place.number >= count:
            return self._after  # a prediction layer appended to the stack
        key = (place.number, count)
        if key not in self._layers:
            self._layers[key] = Position.layer(0, place.number, count)
        return self._layers[key]
