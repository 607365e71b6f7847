"""A merge as a test states it: tensors in memory, a method, its numbers; and what the oracle makes of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from oracles import (
    breadcrumbs,
    dare,
    della,
    linear,
    magnitude_prune,
    model_stock,
    nuslerp,
    slerp,
    task_arithmetic,
    ties,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from oracles.dtypes import Array
    from oracles.estimate import Estimate

Model = dict[str, "Array"]

TASK_VECTOR: dict[str, Callable[..., dict[str, Estimate]]] = {
    "task_arithmetic": task_arithmetic.merge,
    "ties": ties.merge,
    "dare_linear": dare.linear,
    "dare_ties": dare.ties,
    "magnitude_prune": magnitude_prune.merge,
    "breadcrumbs": breadcrumbs.linear,
    "breadcrumbs_ties": breadcrumbs.ties,
    "della_linear": della.linear,
    "della": della.ties,
}
RANDOM = ("dare_linear", "dare_ties", "della_linear", "della")


@cache
def method_table() -> dict[str, Any]:
    """The rows of the one table of methods, by name."""
    from carrick import _core  # noqa: PLC0415  (the oracles are tested without the extension too)

    return {row["name"]: row for row in json.loads(_core.methods())}


@dataclass
class Case:
    """`parameters` are those of each model, `options` those of the merge, `variant` among them."""

    method: str
    models: list[Model]
    base: Model | None = None
    parameters: list[dict[str, Any]] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0

    def complete_options(self) -> dict[str, Any]:
        """Explicit values, else those of the variant, else the table's defaults."""
        row = method_table()[self.method]
        values = {p["name"]: p["default"] for p in row["parameters"] if p["scope"] != "model"}
        chosen = self.options.get("variant", row.get("default_variant"))
        for variant in row["variants"]:
            if variant["name"] == chosen:
                values |= dict(variant["options"])
        return values | {key: value for key, value in self.options.items() if key != "variant"}

    def complete_parameters(self) -> list[dict[str, Any]]:
        row = method_table()[self.method]
        defaults = {p["name"]: p["default"] for p in row["parameters"] if p["scope"] == "model"}
        given = self.parameters or [{} for _ in self.models]
        return [defaults | each for each in given]

    def expected(self) -> dict[str, Estimate]:
        """The oracle's answer."""
        options = {{"lambda": "lambda_"}.get(key, key): value for key, value in self.options.items()}
        if self.method == "slerp":
            assert self.base is not None
            return slerp.merge(self.base, self.models[0], t=options["t"])
        if self.method == "model_stock":
            assert self.base is not None
            return model_stock.merge(self.base, self.models, **options)
        if self.method == "nuslerp":
            weight = [each["weight"] for each in self.parameters]
            switches = {key.removeprefix("nuslerp_"): value for key, value in options.items()}
            return nuslerp.merge(self.base, *self.models, weight=weight, **switches)
        if self.method == "linear":
            return linear.merge(self.models, weight=[each["weight"] for each in self.parameters], **options)
        if self.method == "passthrough":
            return linear.passthrough(self.models[0], scale=self.parameters[0].get("scale", 1.0))
        if self.method in RANDOM:
            options["seed"] = self.seed
        columns = {key: [each[key] for each in self.parameters] for key in self.parameters[0]}
        return TASK_VECTOR[self.method](self.base, self.models, **columns, **options)
