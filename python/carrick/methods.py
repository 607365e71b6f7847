"""The method table of the engine as typed objects: through this door Python learns what a method is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

Value = bool | float | str
"""A parameter's value once it is resolved: choices are text."""

_BASES = {
    "required": "required",
    "optional": "optional: with one, task vectors are merged",
    "unused": "none: it only gives config and tokenizer",
}
# Where the table of methods says less than a reader has to know.
_BASES_OF_METHODS = {
    "slerp": "optional: it is the model at `t: 0`; without one, that is the first of two listed",
    "layer_swap": "optional: it gives config, tokenizer and what `base` names",
    "cat": "none: it merges adapters only",
}
# What adapters are merged on is a difference already; only models need a base to differ from.
_BASES_OF_FACTORS = "required for checkpoints, none for adapters"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter of a method: its type, its range, its default.

    `scope` says how far one value reaches: ``model`` may differ from model to model, ``global`` is one value
    for all models of a tensor, ``merge`` is one value for the whole merge. Ranges are closed.
    """

    name: str
    scope: Literal["model", "global", "merge"]
    required: bool
    type: Literal["float", "bool", "choice"]
    default: Value | None = None
    min: float | None = None
    max: float | None = None
    choices: tuple[str, ...] | None = None
    doc: str

    @property
    def span(self) -> str:
        """The values that are allowed, in words."""
        if self.type == "bool":
            return "true or false"
        if self.choices is not None:
            return " or ".join(f"`{choice}`" for choice in self.choices)
        if self.min is not None and self.max is not None:
            return f"a number between {self.min:g} and {self.max:g}"
        if self.min is not None:
            return f"a number from {self.min:g} on"
        if self.max is not None:
            return f"a number up to {self.max:g}"
        return "a finite number"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A published reading of a method: values for some of its parameters."""

    name: str
    options: tuple[tuple[str, Value], ...]
    doc: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of merging: its name, the models it takes, its parameters.

    `min_models` and `max_models` count the models without the base. `base` is ``required``, ``optional``, or
    ``unused``: a base that is listed is then one more model. `ignored` are parameters of mergekit that change
    nothing here.
    """

    name: str
    family: str
    title: str
    summary: str
    formula: str
    source: str
    base: Literal["required", "optional", "unused"]
    min_models: int
    max_models: int | None
    passes: str
    parameters: tuple[Parameter, ...]
    variants: tuple[Variant, ...]
    ignored: tuple[str, ...]

    @property
    def base_rule(self) -> str:
        """Whether there has to be a base, in words; what follows a colon says what it is for."""
        otherwise = _BASES_OF_FACTORS if self.family == "factored" else _BASES[self.base]
        return _BASES_OF_METHODS.get(self.name, otherwise)

    def parameter(self, name: str) -> Parameter | None:
        """Return the parameter of that name, or None."""
        return next((parameter for parameter in self.parameters if parameter.name == name), None)

    def variant(self, name: str) -> Variant | None:
        """Return the variant of that name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)

    def scoped(self, *scopes: str) -> tuple[Parameter, ...]:
        """Return the parameters of these scopes, in the table's order."""
        return tuple(parameter for parameter in self.parameters if parameter.scope in scopes)


@cache
def load() -> Mapping[str, Method]:
    """Return all methods by name, in the table's order.

    Examples
    --------
    >>> load()["ties"].parameter("density").default
    1.0
    """
    from carrick import _core  # noqa: PLC0415  the extension is loaded when the first method is asked for

    # Plain objects, not pydantic's: the table is the engine's own, and every command would wait for the import.
    return MappingProxyType({row["name"]: _method(row) for row in json.loads(_core.methods())})


def _method(row: dict[str, Any]) -> Method:
    return Method(
        **{
            **row,
            "parameters": tuple(_parameter(parameter) for parameter in row["parameters"]),
            "variants": tuple(
                Variant(**{**variant, "options": tuple((name, value) for name, value in variant["options"])})
                for variant in row["variants"]
            ),
            "ignored": tuple(row["ignored"]),
        }
    )


def _parameter(row: dict[str, Any]) -> Parameter:
    choices = row.get("choices")
    return Parameter(**{**row, "choices": None if choices is None else tuple(choices)})


def get(name: str) -> Method:
    """Return the method of that name.

    Raises
    ------
    KeyError
        There is none; the message suggests the nearest name.

    Examples
    --------
    >>> get("slerp").title
    'SLERP'
    """
    table = load()
    if name not in table:
        raise KeyError(f"`{name}` is not a merge method{nearest(name, table)}")
    return table[name]
