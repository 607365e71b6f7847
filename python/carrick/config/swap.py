"""The settings of `layer_swap`, and the patterns by which roles of tensors are told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from carrick.config.document import LayerSwap, Place, Slice, Source
from carrick.config.keys import LAYER_KEYS, ROLE_NAMES
from carrick.config.tree import ListNode, Node, Scalar, as_list, as_map, as_text, shown
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.config.settings import Settings
    from carrick.methods import Method, Value


def read_layer_swap(
    layers: Node | None, settings: Settings, method: Method, part: Slice, *, adapters: bool = False
) -> LayerSwap:
    """Return what the language expert gives, and which of the two models it is.

    Without roles the model listed first is the task expert. What an adapter takes from the base is no update: none
    is needed.
    """
    task, language = _experts(part)
    places = {
        name: cast("Place", _merge_value(name, settings, method))
        for name in ("embeddings", "head", "final_norm")
    }
    for name, place in places.items():
        if place == "base" and part.base is None and not adapters:
            raise settings[name].where.error(
                f"`{name}` comes from the base, but there is no `base_model`; add it"
            )
    first, last, match = _read_layers(layers) if layers is not None else (None, None, None)
    partition = (
        None
        if layers is not None
        else cast('Literal["A", "B", "C", "Z"]', _merge_value("partition", settings, method))
    )
    if layers is not None and "partition" in settings:
        raise settings["partition"].where.error(
            "`partition` and `layers` exclude one another; remove one of them"
        )
    return LayerSwap(task, language, partition, first, last, match, **places)


def _experts(part: Slice) -> tuple[Source, Source]:
    first, second = part.merged
    if first.role is not None and first.role == second.role:
        raise second.where.error(
            f"both models have the role `{first.role}`; one is `task`, the other `language`"
        )
    swapped = first.role == "language" or second.role == "task"
    return (second, first) if swapped else (first, second)


def _merge_value(name: str, settings: Settings, method: Method) -> Value | None:
    parameter = method.parameter(name)
    default = None if parameter is None else parameter.default
    return settings[name].constant if name in settings else default


def _read_layers(node: Node) -> tuple[int | float | None, int | float | None, re.Pattern[str] | None]:
    mapping = as_map(node, "`layers`")
    mapping.refuse_unknown(LAYER_KEYS, "`layers`")
    first, last, match = (mapping.get(name) for name in ("first", "last", "match"))
    if match is not None:
        if first is not None or last is not None:
            raise match.where.error("`match` excludes `first` and `last`; remove one or the other")
        return None, None, read_pattern(match, "`match`")
    if first is None and last is None:
        raise mapping.where.error("`layers` needs `match`, or `first` and `last`")
    counts = (_read_share(first, "first"), _read_share(last, "last"))
    if not any(counts):
        raise mapping.where.error(
            "`first` and `last` are both 0: nothing would come from the language expert"
        )
    return (*counts, None)


def _read_share(node: Node | None, name: str) -> int | float:
    """Return a count of layers (int) or a fraction of them (float)."""
    if node is None:
        return 0
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000:
        return value
    if isinstance(value, float) and 0.0 <= value <= 1.0:
        return value
    raise node.where.error(
        f"`{name}` is {shown(node)}; it has to be a number of layers, or a fraction from 0.0 to 1.0"
    )


def read_roles(node: Node | None) -> Mapping[str, tuple[re.Pattern[str], ...]]:
    """Return the patterns that a document gives for the roles of tensors."""
    if node is None:
        return {}
    mapping = as_map(node, "`roles`")
    roles: dict[str, tuple[re.Pattern[str], ...]] = {}
    for name, value in mapping.entries.items():
        if name not in ROLE_NAMES:
            hint = nearest(name, ROLE_NAMES) or f"; the roles are {', '.join(ROLE_NAMES)}"
            raise mapping.keys[name].error(f"`{name}` is not a role of tensors{hint}")
        what = f"the role `{name}`"
        items = as_list(value, what).items if isinstance(value, ListNode) else (value,)
        roles[name] = tuple(read_pattern(item, what) for item in items)
    return roles


def read_pattern(node: Node, what: str) -> re.Pattern[str]:
    """Return a regular expression, or raise with the reason why it is none."""
    text = as_text(node, what)
    try:
        return re.compile(text)
    except re.error as error:
        raise node.where.error(f"{what} is `{text}`, which is not a regular expression: {error}") from None
