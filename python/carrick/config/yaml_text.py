"""YAML 1.2 text → trees of located values.

The parser gives nodes with their lines and resolves plain words as YAML 1.2 does: `1e-3` is a number and `no`
is text. Objects are made here from the few tags that a configuration needs; any other tag is refused.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from carrick.config.location import Location
from carrick.config.tree import ListNode, MapNode, Node, Plain, Scalar, is_null

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_BYTES = 4 * 2**20
MAX_NODES = 200_000
"""Values of one text, aliases counted as often as they are used: few of them can stand for billions."""
MAX_DEPTH = 32

_INT = re.compile(r"[-+]?[0-9]{1,400}")
_RADIX = re.compile(r"0x[0-9a-fA-F]{1,64}|0o[0-7]{1,64}")
_FLOAT = re.compile(r"[-+]?([0-9]*\.[0-9]+|[0-9]+\.?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_CORE = "tag:yaml.org,2002:"


def read_text(text: str, file: str, *, first: str = "`merge_method` and `models`") -> list[Node]:
    """Return one tree for each document of the text; empty documents are left out.

    Parameters
    ----------
    text
        The YAML.
    file
        What messages call it.
    first
        The keys without which there is nothing to do, for the message about an empty text.

    Raises
    ------
    ConfigError
        The text is not YAML, has a key twice, nests too deeply, expands to too much, or holds nothing.
    """
    from ruamel.yaml import YAML  # noqa: PLC0415  importing it takes long
    from ruamel.yaml.error import MarkedYAMLError, YAMLError  # noqa: PLC0415

    start = Location(file=file)
    if len(text) > MAX_BYTES:
        raise start.error(f"the text has {len(text)} characters; a configuration may have {MAX_BYTES}")
    trees: list[Node] = []
    try:
        for node in YAML(typ="safe", pure=True).compose_all(text):
            tree = _Builder(start).node(node, start, 0)
            if not is_null(tree):
                trees.append(tree)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = start if mark is None else start.at(mark.line + 1, mark.column + 1)
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise where.error(f"not valid YAML: {reason}") from None
    except YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        raise start.at(line, 1).error(f"not valid YAML: {getattr(error, 'reason', error)}") from None
    except RecursionError:
        raise start.error(f"lists and mappings nest too deeply; {MAX_DEPTH} levels are allowed") from None
    if not trees:
        raise start.error(f"the configuration is empty; begin with {first}")
    return trees


class _Builder:
    """Turns the parser's nodes of one document into a tree, counting what aliases expand to."""

    def __init__(self, start: Location) -> None:
        self._start = start
        self._nodes = 0

    def node(self, raw: Any, where: Location, depth: int) -> Node:
        from ruamel.yaml.nodes import MappingNode, ScalarNode  # noqa: PLC0415

        where = where.at(raw.start_mark.line + 1, raw.start_mark.column + 1)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise where.error(
                f"the text expands to more than {MAX_NODES} values; write out what its aliases repeat"
            )
        if depth > MAX_DEPTH:
            raise where.error(f"lists and mappings nest too deeply; {MAX_DEPTH} levels are allowed")
        tag = str(raw.tag).removeprefix(_CORE)
        if isinstance(raw, ScalarNode):
            return Scalar(_scalar(str(raw.value), tag, where), where)
        if isinstance(raw, MappingNode):
            _refuse_tag(tag, "map", where)
            return self._mapping(raw, where, depth)
        _refuse_tag(tag, "seq", where)
        return ListNode(
            tuple(self.node(item, where.item(index), depth + 1) for index, item in enumerate(raw.value)),
            where,
        )

    def _mapping(self, raw: Any, where: Location, depth: int) -> MapNode:
        entries: dict[str, Node] = {}
        keys: dict[str, Location] = {}
        inherited: dict[str, tuple[Node, Location]] = {}
        for raw_key, raw_value in raw.value:
            if str(raw_key.tag) == f"{_CORE}merge":
                for parent in self._merged(raw_value, where, depth):
                    for name, value in parent.entries.items():
                        inherited.setdefault(name, (value, parent.keys[name]))
                continue
            key = self.node(raw_key, where, depth + 1)
            if not isinstance(key, Scalar) or not isinstance(key.value, str):
                raise key.where.error("a key has to be text")
            name = key.value
            at = where.child(name).at(raw_key.start_mark.line + 1, raw_key.start_mark.column + 1)
            if name in entries:
                raise at.error(
                    f"`{name}` is given twice (first in line {keys[name].line}); remove one of them"
                )
            keys[name] = at
            entries[name] = self.node(raw_value, where.child(name), depth + 1)
        for name, (value, at) in inherited.items():
            if name not in entries:
                entries[name], keys[name] = value, at
        return MapNode(entries, keys, where)

    def _merged(self, raw: Any, where: Location, depth: int) -> Iterator[MapNode]:
        """Yield the mappings behind a `<<` key, the first having precedence."""
        value = self.node(raw, where, depth + 1)
        for parent in value.items if isinstance(value, ListNode) else (value,):
            if not isinstance(parent, MapNode):
                raise value.where.error("`<<` takes a mapping or a list of mappings")
            yield parent


def _scalar(text: str, tag: str, where: Location) -> Plain:
    """Return what a word means under the tag that the parser resolved for it."""
    match tag:
        case "str" | "timestamp" | "value":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() in {"true", "yes", "on", "y"}  # under %YAML 1.1
        case "int" | "float":
            number = _number(text.replace("_", ""), tag)
            if number is not None:
                return number
            raise where.error(f"`{text[:60]}` is not a number")
        case _:
            raise where.error(f"the tag `{tag}` is not read; give a plain value")


def _number(text: str, tag: str) -> int | float | None:
    if _INT.fullmatch(text):
        return int(text)
    if _RADIX.fullmatch(text):
        return int(text, 0)
    special = text.lower().replace(".inf", "inf").replace(".nan", "nan")
    return float(special) if tag == "float" and _FLOAT.fullmatch(text) else None


def _refuse_tag(tag: str, expected: str, where: Location) -> None:
    if tag != expected:
        raise where.error(f"the tag `{tag}` is not read; give a plain value")
