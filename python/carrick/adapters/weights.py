"""The weights of a merge as Python code gives them: a number for each adapter, or numbers by module."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from carrick.errors import ConfigError

ByModule = Sequence[Mapping[str, Any] | float]
"""What a YAML takes in place of a number: `{filter, value}` entries, or a gradient over the layers."""

_EXAMPLE = "[1, 0.5]"


def read_weights(weights: Any, adapters: int) -> list[float | list[Any]] | None:
    """Return one weight for each adapter; what a YAML takes in place of a number is left to its reader.

    Raises
    ------
    ConfigError
        They are in no order, not as many as adapters, or one is neither a number nor a list.

    Examples
    --------
    >>> read_weights((1, [{"filter": "q_proj", "value": 0.5}, {"value": 0}]), 2)
    [1.0, [{'filter': 'q_proj', 'value': 0.5}, {'value': 0}]]
    """
    if weights is None:
        return None
    # A mapping or a set would be taken in an order that is not that of the adapters.
    if isinstance(weights, str | bytes | Mapping | Set) or not isinstance(weights, Iterable):
        raise ConfigError(
            f"`weights` is {weights!r}; give a list with one for each adapter, in their order, such as {_EXAMPLE}"
        )
    given = list(weights)
    if len(given) != adapters:
        raise ConfigError(f"{len(given)} weights for {adapters} adapters; give one for each, or none")
    return [_weight(weight, number) for number, weight in enumerate(given, 1)]


def _weight(weight: Any, number: int) -> float | list[Any]:
    if isinstance(weight, list | tuple):
        return list(weight)
    try:
        return float(weight)
    except (TypeError, ValueError):
        raise ConfigError(
            f"weight {number} is {weight!r}; give a number, or a list of {{filter, value}} for weights by module"
        ) from None
