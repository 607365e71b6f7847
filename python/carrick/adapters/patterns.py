"""PEFT's rule for `rank_pattern` and `alpha_pattern`: the first pattern that matches a module's path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, TypeVar

from carrick.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

T = TypeVar("T")

# A pattern without an operator but `^`: word characters, dashes, and escaped punctuation.
_LITERAL = re.compile(r"(\^?)((?:[\w-]|\\[^\w\s])+)", re.ASCII)
_ESCAPED = re.compile(r"\\(.)")


class Patterns(Generic[T]):
    r"""Values of modules by pattern.

    A pattern is a regular expression for the end of a path, from a dot or the start on; among several that
    match, the first one counts. Those that are plain names are looked up instead of searched, so that a
    pattern for each module of a model stays cheap.

    Parameters
    ----------
    values
        Pattern to value, as adapter_config.json has them.
    source
        The file and key that say so, for the message about a malformed pattern.

    Examples
    --------
    >>> ranks = Patterns({r"layers\.1\.q_proj": 4, "(q|k)_proj": 8})
    >>> ranks.find("model.layers.1.q_proj"), ranks.find("model.layers.2.k_proj"), ranks.find("lm_head")
    (4, 8, None)
    """

    def __init__(self, values: Mapping[str, T], source: str = "pattern") -> None:
        self._values = list(values.values())
        self._whole: dict[str, int] = {}
        self._end: dict[str, int] = {}
        self._searched: list[tuple[int, re.Pattern[str]]] = []
        for order, pattern in enumerate(values):
            if plain := _LITERAL.fullmatch(pattern):
                names = self._whole if plain[1] else self._end
                names.setdefault(_ESCAPED.sub(r"\1", plain[2]), order)
                continue
            try:
                self._searched.append((order, re.compile(rf"(.*\.)?({pattern})$")))
            except re.error as error:
                raise FormatError(
                    f"{source}: {pattern!r} is not a regular expression ({error}); correct the pattern"
                ) from None

    def find(self, path: str) -> T | None:
        """Value of the first pattern that matches a module's path, None where none does."""
        none = len(self._values)
        order = min(self._whole.get(path, none), *(self._end.get(end, none) for end in _ends(path)))
        for place, pattern in self._searched:
            if place > order:
                break
            if pattern.match(path):
                order = place
                break
        return self._values[order] if order < none else None


def exact(paths: Iterable[str]) -> dict[str, str]:
    r"""Write for each module a pattern that matches it and none of the others.

    `layers.1.x` is also the end of `encoder.layers.1.x`: a pattern that would match both is tied to the start
    of the path, so that the order of the patterns, which PEFT changes when it saves, does not matter.

    Returns
    -------
    Path to pattern, in the order of the paths.

    Examples
    --------
    >>> exact(["h.1.x", "encoder.h.1.x"])
    {'h.1.x': '^h\\.1\\.x', 'encoder.h.1.x': 'encoder\\.h\\.1\\.x'}
    """
    paths = list(paths)
    inner = {end for path in paths for end in _ends(path) if end != path}
    return {path: ("^" if path in inner else "") + re.escape(path) for path in paths}


def _ends(path: str) -> Iterator[str]:
    """Yield the path itself and what follows each of its dots."""
    yield path
    place = path.find(".")
    while place >= 0:
        yield path[place + 1 :]
        place = path.find(".", place + 1)
