"""Targets to jobs: the method, its options, and each input with its parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.checkpoints.element_types import is_float
from carrick.config import options_for
from carrick.errors import PlanError
from carrick.plan.dtypes import check_alike
from carrick.plan.job import CAST, COPY, COPY_EQUAL, Input, Job
from carrick.plan.layer_swap import Swap

if TYPE_CHECKING:
    from carrick.config import Document, TensorOptions
    from carrick.plan.dtypes import OutputTypes
    from carrick.plan.lineup import Models
    from carrick.plan.match import Target

PASSTHROUGH, LAYER_SWAP = "passthrough", "layer_swap"
# The family of methods that read an update in place of a model.
# Families that merge what is added to the base.
_OF_UPDATES = ("task_vector", "factored")
# The engine divides by 1 where the weights' sum is smaller than this.
_CANCELLED = 1e-8
_NAMED = 3


class Assembly:
    """Makes the jobs of a document, and gathers what a user should know about them."""

    def __init__(self, document: Document, models: Models, types: OutputTypes) -> None:
        self._document = document
        self._method = document.method.name
        self._takes_updates = document.method.family in _OF_UPDATES
        self._options = options_for(document)
        self._types = types
        self._swap = Swap(document, models) if self._method == LAYER_SWAP else None
        self._cancelled: list[str] = []
        self._densities: dict[int, set[object]] = {}

    def job(self, target: Target) -> Job:
        """Make the job of one output tensor.

        Raises
        ------
        PlanError
            Inputs that cannot be merged, or a whole-model trim with densities that differ between tensors.
        """
        if target.copied_from is not None:
            source = target.copied_from.input(target.tensors[0])
            return self._moved(target, source)
        check_alike(target)
        if self._swap is not None:
            return self._swap.job(target, self._types.of(target))
        if not is_float(target.tensors[0].dtype):
            return self._integers(target)
        resolved = self._resolve(target)
        if self._method == PASSTHROUGH and resolved.parameters[0].get("scale", 1.0) == 1.0:
            return self._moved(target, target.lineup.merged[0].input(target.tensors[-1], index=0))
        if self._takes_updates and _is_untouched(target):
            return self._moved(target, target.lineup.everyone[0].input(target.tensors[0]))
        self._watch(target, resolved)
        return Job(
            target.name,
            target.tensors[0].shape,
            self._types.of(target),
            self._method,
            resolved.options,
            self._inputs(target, resolved),
        )

    def notes(self) -> list[str]:
        """Sentences about the jobs made so far."""
        if not self._cancelled:
            return []
        named = ", ".join(self._cancelled[:_NAMED]) + (", …" if len(self._cancelled) > _NAMED else "")
        return [
            f"the weights of {len(self._cancelled)} tensors add up to 0 while `normalize` divides by their "
            f"sum, which "
            f"then counts as 1: {named}; set `normalize: false` or other weights."
        ]

    def _resolve(self, target: Target) -> TensorOptions:
        names = target.names[1:] if target.lineup.base else target.names
        same = all(name == target.name for name in names)
        return self._options.for_tensor(target.name, target.position, None if same else names)

    def _inputs(self, target: Target, resolved: TensorOptions) -> list[Input]:
        lineup = target.lineup
        inputs: list[Input] = []
        tensors = target.tensors
        if lineup.base is not None:
            inputs.append(lineup.base.input(tensors[0], base=True))
            tensors = tensors[1:]
        for index, (model, tensor) in enumerate(zip(lineup.merged, tensors, strict=True)):
            parameters = resolved.parameters[index]
            update = None
            if self._takes_updates and lineup.base and model.adapters:
                # Exactly what the adapters add; base + update − base would be rounded.
                starts = model.starts_from(lineup.base, tensor, target.tensors[0])
                update = model.update(tensor) if starts else None
            if update is None:
                inputs.append(model.input(tensor, index=index, parameters=parameters))
            else:
                inputs.append(Input(update, index=index, parameters=parameters, delta=True))
        return inputs

    def _integers(self, target: Target) -> Job:
        inputs = [m.input(t) for m, t in zip(target.lineup.everyone, target.tensors, strict=True)]
        method = COPY if len(inputs) == 1 else COPY_EQUAL
        return Job(target.name, target.tensors[0].shape, target.tensors[0].dtype, method, {}, inputs)

    def _moved(self, target: Target, source: Input) -> Job:
        dtype = self._types.of(target)
        method = COPY if source.dtype == dtype else CAST
        return Job(target.name, target.tensors[0].shape, dtype, method, {}, [source])

    def _watch(self, target: Target, resolved: TensorOptions) -> None:
        if resolved.options.get("normalize") is True:
            weights = [float(p["weight"]) for p in resolved.parameters if "weight" in p]
            if weights and abs(sum(weights)) < _CANCELLED:
                self._cancelled.append(target.name)
        if resolved.options.get("trim_scope") == "model":
            for index, parameters in enumerate(resolved.parameters):
                seen = self._densities.setdefault(index, set())
                seen.add(parameters.get("density"))
                if len(seen) > 1:
                    low, high = sorted(float(str(d)) for d in seen)
                    raise PlanError(
                        f"{target.lineup.merged[index].ref}: `trim_scope: model` trims over all tensors at "
                        f"once, but "
                        f"its density is {low:g} for some tensors and {high:g} for {target.name!r}; give "
                        f"one density"
                    )


def _is_untouched(target: Target) -> bool:
    """Whether every model is the base with adapters, none of which changes this tensor: it stays the base's."""
    base, (of_base, *tensors) = target.lineup.base, target.tensors
    return base is not None and all(
        model.adapters and model.starts_from(base, tensor, of_base) and not model.changes(tensor)
        for model, tensor in zip(target.lineup.merged, tensors, strict=True)
    )
