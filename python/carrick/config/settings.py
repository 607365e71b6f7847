"""Values of parameters: constants, gradients over the layers, choices by tensor name.

The forms are mergekit's. A list of numbers is a gradient, interpolated linearly over the layers of a slice; a
list of words or booleans is divided into steps; a list of `{filter, value}` takes the first entry whose
filter is part of the tensor's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.config.tree import ListNode, MapNode, Node, Scalar, as_list, is_null, shown
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from carrick.methods import Parameter, Value

CONDITION_KEYS = {
    "filter": "Part of a tensor's name; `*` or nothing fits every name.",
    "value": "The value for those tensors: one value or a gradient.",
}
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@dataclass(frozen=True, slots=True)
class Condition:
    """Values for tensors with `part` in their name (None: for all); several values run over the layers."""

    part: str | None
    values: tuple[Value, ...]
    where: Location = field(default_factory=Location, compare=False, repr=False)

    def fits(self, tensor: str) -> bool:
        """Say whether the condition holds for a tensor's name."""
        return self.part is None or self.part in tensor


@dataclass(frozen=True, slots=True)
class Setting:
    """What was written for one parameter at one level."""

    conditions: tuple[Condition, ...]
    where: Location

    @property
    def constant(self) -> Value | None:
        """The value, where it is the same for every tensor; else None."""
        first = self.conditions[0]
        return first.values[0] if first.part is None and len(set(first.values)) == 1 else None

    @property
    def is_gradient(self) -> bool:
        """Whether the value differs between layers."""
        return any(len(set(condition.values)) > 1 for condition in self.conditions)

    def value(self, tensor: str, t: float) -> Value | None:
        """Return the value for a tensor at a place in the layers, None where no filter fits its name.

        Parameters
        ----------
        tensor
            The tensor's name.
        t
            The place, from 0 (first layer, and what precedes it) to 1 (last layer, and what follows it).
        """
        fitting = next((condition for condition in self.conditions if condition.fits(tensor)), None)
        return None if fitting is None else along(fitting.values, t)


Settings = Mapping[str, Setting]


def along(values: tuple[Value, ...], t: float) -> Value:
    """Return the value at place `t` in [0, 1]: numbers are interpolated, anything else is taken in steps.

    Examples
    --------
    >>> along((0.0, 1.0, 0.5), 0.25)
    0.5
    >>> along(("weighted", "sum"), 0.99)
    'weighted'
    """
    place = t * (len(values) - 1)
    index = min(int(place), len(values) - 1)
    low = values[index]
    if index == len(values) - 1 or isinstance(low, bool | str):
        return low
    high = values[index + 1]
    if isinstance(high, bool | str):
        return low
    fraction = place - index
    mixed = (1.0 - fraction) * low + fraction * high
    return min(max(mixed, min(low, high)), max(low, high))


def read_setting(node: Node, parameter: Parameter, where: Location) -> Setting:
    """Return the setting that a node holds, each value checked against the parameter's type and range."""
    name = parameter.name
    if isinstance(node, MapNode):
        raise node.where.error(f"`{name}` is a mapping; conditions are a list: `- filter: …` with `value: …`")
    if isinstance(node, ListNode) and node.items and isinstance(node.items[0], MapNode):
        conditions = tuple(_read_condition(item, parameter) for item in node.items)
    else:
        conditions = (Condition(None, _read_values(node, parameter)),)
    setting = Setting(conditions, where)
    if parameter.scope == "merge" and setting.constant is None:
        raise where.error(f"`{name}` is one value for the whole merge; it cannot differ between tensors")
    return setting


def _read_condition(node: Node, parameter: Parameter) -> Condition:
    name = parameter.name
    if not isinstance(node, MapNode):
        raise node.where.error(f"`{name}` mixes values with conditions; write each as `filter:` and `value:`")
    node.refuse_unknown(CONDITION_KEYS, f"a condition of `{name}`")
    value = node.get("value")
    if value is None:
        raise node.where.error(f"this condition of `{name}` has no `value`")
    part = node.get("filter")
    if part is None:
        return Condition(None, _read_values(value, parameter))
    if not isinstance(part, Scalar) or not isinstance(part.value, str) or not part.value:
        raise part.where.error(
            f"the `filter` of `{name}` is {shown(part)}; it has to be part of a tensor's name"
        )
    return Condition(None if part.value == "*" else part.value, _read_values(value, parameter), part.where)


def _read_values(node: Node, parameter: Parameter) -> tuple[Value, ...]:
    if isinstance(node, ListNode):
        return tuple(read_value(item, parameter) for item in as_list(node, f"`{parameter.name}`").items)
    return (read_value(node, parameter),)


def read_value(node: Node, parameter: Parameter) -> Value:
    """Return one value of the parameter's type, within its range.

    Numbers may be written as text (`"1e-5"`), booleans as 0 and 1 or as the words that YAML 1.1 took for
    booleans.

    Raises
    ------
    ConfigError
        The value has another type, is not finite or lies outside the range; the message names what is
        allowed.
    """
    if isinstance(node, Scalar) and not is_null(node):
        match parameter.type:
            case "bool":
                value: Value | None = _boolean(node.value)
            case "choice":
                value = _choice(node.value, parameter.choices or ())
            case "float":
                value = _number(node.value)
        if value is not None and _in_range(value, parameter):
            return value
    hint = ""
    if parameter.choices is not None and isinstance(node, Scalar) and isinstance(node.value, str):
        hint = nearest(node.value, parameter.choices)
    raise node.where.error(f"`{parameter.name}` is {shown(node)}; it has to be {parameter.span}{hint}")


def _boolean(value: object) -> bool | None:
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return bool(value) if value in (0, 1) else None


def _choice(value: object, choices: tuple[str, ...]) -> str | None:
    if isinstance(value, str) and value in choices:
        return value
    truth = _boolean(value)
    word = None if truth is None else str(truth).lower()
    return word if word in choices else None


def _number(value: object) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else math.nan
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _in_range(value: Value, parameter: Parameter) -> bool:
    if parameter.type != "float" or isinstance(value, str):
        return True
    return (parameter.min is None or value >= parameter.min) and (
        parameter.max is None or value <= parameter.max
    )
