"""Which layer and which kind of module a tensor belongs to, told by its name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from carrick.checkpoints import locate

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    T = TypeVar("T")

OUTSIDE = "outside the layers"
_PARAMETER = re.compile(r"\.(weight|bias)$")


def by_layer(names: Iterable[str], prefixes: Collection[str] | None = None) -> dict[str, list[str]]:
    """Sort names by layer, what is in no layer last.

    Parameters
    ----------
    names
        Names of tensors or modules.
    prefixes
        The stacks of layers; None takes every numbered run for one.

    Examples
    --------
    >>> by_layer(["embed.weight", "h.10.q.weight", "h.2.q.weight", "h.2.k.weight"])
    {'h.2': ['h.2.q.weight', 'h.2.k.weight'], 'h.10': ['h.10.q.weight'], 'outside the layers': ['embed.weight']}
    """
    groups: dict[tuple[int, int], list[str]] = {}
    labels: dict[tuple[int, int], str] = {}
    stacks: dict[str, int] = {}
    for name in names:
        place = locate(name)
        if place is None or (prefixes is not None and place.prefix not in prefixes):
            key, label = (1 << 30, 0), OUTSIDE
        else:
            key = stacks.setdefault(place.prefix, len(stacks)), place.number
            label = f"{place.prefix}.{place.number}"
        groups.setdefault(key, []).append(name)
        labels[key] = label
    return {labels[key]: groups[key] for key in sorted(groups)}


def by_module(names: Iterable[str]) -> dict[str, list[str]]:
    """Sort names by kind of module: the last part of the name, and as many before it as tell kinds apart.

    Examples
    --------
    >>> list(by_module(["embed_tokens.weight", "layers.0.attn.q_proj.weight", "layers.1.attn.q_proj.weight"]))
    ['embed_tokens', 'q_proj']
    >>> list(by_module(["h.0.attn.c_proj.weight", "h.0.mlp.c_proj.weight", "h.0.mlp.c_proj.bias"]))
    ['attn.c_proj', 'mlp.c_proj']
    """
    paths = {name: _path(name) for name in names}
    kinds = set(paths.values())
    labels = {kind: _label(kind, kinds) for kind in kinds}
    return _grouped(paths, lambda path: labels[path])


def _path(name: str) -> tuple[str, ...]:
    """Parts of a module's name within its layer, without numbers: experts are of one kind."""
    module = _PARAMETER.sub("", name)
    place = locate(f"{module}.")
    parts = (place.suffix if place and place.suffix else module).split(".")
    return tuple(part for part in parts if part and not part.isdigit()) or (module,)


def _label(kind: tuple[str, ...], kinds: Collection[tuple[str, ...]]) -> str:
    for length in range(1, len(kind)):
        if sum(other[-length:] == kind[-length:] for other in kinds) == 1:
            return ".".join(kind[-length:])
    return ".".join(kind)


def _grouped(items: Mapping[str, T], label: Callable[[T], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name, item in items.items():
        groups.setdefault(label(item), []).append(name)
    return groups
