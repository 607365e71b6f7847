"""Python objects → the same trees that YAML texts give, and back to YAML for the record."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from carrick.config.tree import ListNode, MapNode, Node, Scalar

if TYPE_CHECKING:
    from carrick.config.location import Location

MAX_DEPTH = 32


def read_object(value: object, where: Location, depth: int = 0) -> Node:
    """Return the tree of a configuration given as mappings, lists and plain values.

    Examples
    --------
    >>> from carrick.config.location import Location
    >>> read_object({"models": [{"model": "A"}]}, Location()).entries["models"].items[0].where.key
    'models[0]'
    """
    if depth > MAX_DEPTH:
        raise where.error(f"lists and mappings nest too deeply; {MAX_DEPTH} levels are allowed")
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if value is None or isinstance(value, bool | int | float | str):
        return Scalar(value, where)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise where.error(f"the key {key!r} has to be text")
        entries = {key: read_object(entry, where.child(key), depth + 1) for key, entry in value.items()}
        return MapNode(entries, {key: where.child(key) for key in entries}, where)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return ListNode(
            tuple(read_object(item, where.item(index), depth + 1) for index, item in enumerate(value)), where
        )
    raise where.error(
        f"a {type(value).__name__} is not read; give a mapping, a list, text, a number or a boolean"
    )


def as_yaml(trees: Sequence[Node]) -> str:
    """Return the documents as YAML text."""
    from ruamel.yaml import YAML  # noqa: PLC0415  importing it takes long

    yaml = YAML()
    yaml.width = 1000
    out = StringIO()
    yaml.dump_all([plain(tree) for tree in trees], out)
    return out.getvalue()


def plain(node: Node) -> Any:
    """Return the tree as mappings, lists and plain values."""
    match node:
        case MapNode():
            return {key: plain(value) for key, value in node.entries.items()}
        case ListNode():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value
