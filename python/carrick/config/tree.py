"""A configuration as a tree of values that know where they were written.

YAML texts and Python mappings are both read into this tree, so that whatever reads the tree has one kind of
input and one kind of error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carrick.config.location import Location

Plain = bool | int | float | str | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value."""

    value: Plain
    where: Location


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list of values."""

    items: tuple[Node, ...]
    where: Location


@dataclass(frozen=True, slots=True)
class MapNode:
    """Values by name. `keys` holds where each name was written."""

    entries: Mapping[str, Node]
    keys: Mapping[str, Location]
    where: Location

    def refuse_unknown(self, known: Iterable[str], what: str) -> None:
        """Raise for the first key that is not known, with the nearest valid name."""
        names = tuple(known)
        for key in self.entries:
            if key not in names:
                hint = nearest(key, names) or f"; the keys here are {', '.join(names)}"
                raise self.keys[key].error(f"`{key}` is not a key of {what}{hint}")

    def get(self, name: str) -> Node | None:
        """Return the value under `name`; None where it is absent or null."""
        node = self.entries.get(name)
        return None if node is None or is_null(node) else node


Node = Scalar | ListNode | MapNode


def is_null(node: Node) -> bool:
    """Say whether nothing was written: `key:` with no value, `~` or `null`."""
    return isinstance(node, Scalar) and node.value is None


def shown(node: Node) -> str:
    """Return what was written, short enough for a message."""
    match node:
        case MapNode():
            return "a mapping"
        case ListNode():
            return "a list"
        case Scalar(value=None):
            return "empty"
        case Scalar(value=bool() as value):
            return f"`{str(value).lower()}`"
        case Scalar(value=value):
            text = str(value)
            return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def as_map(node: Node, what: str) -> MapNode:
    """Return the node as a mapping, or raise."""
    if not isinstance(node, MapNode):
        raise node.where.error(f"{what} is {shown(node)}; it has to be a mapping of keys to values")
    return node


def as_list(node: Node, what: str) -> ListNode:
    """Return the node as a list that is not empty, or raise."""
    if not isinstance(node, ListNode):
        raise node.where.error(f"{what} is {shown(node)}; it has to be a list")
    if not node.items:
        raise node.where.error(f"{what} is an empty list; give it at least one entry")
    return node


def as_text(node: Node, what: str) -> str:
    """Return the node as text that is not empty, or raise."""
    if not isinstance(node, Scalar) or not isinstance(node.value, str) or not node.value.strip():
        raise node.where.error(f"{what} is {shown(node)}; it has to be text")
    return node.value


def as_choice(node: Node, what: str, choices: Iterable[str]) -> str:
    """Return the node as one of a few words, or raise with the nearest of them."""
    names = tuple(choices)
    text = as_text(node, what)
    if text not in names:
        hint = nearest(text, names) or f"; it can be {', '.join(names)}"
        raise node.where.error(f"{what} is `{text}`{hint}")
    return text


def as_count(node: Node, what: str, *, least: int = 0, limit: int) -> int:
    """Return the node as a whole number from `least` to `limit`, or raise."""
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= limit:
        raise node.where.error(
            f"{what} is {shown(node)}; it has to be a whole number from {least} to {limit}"
        )
    return value
