"""Filters of a configuration's values: one that fits no module would be dropped without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.config import Document
    from carrick.config.settings import Settings

_NAMED = 12


def refuse_unmatched(document: Document, lineup: AdapterLineup) -> None:
    """Raise for a `filter` that is part of no name that a value can be asked for.

    Raises
    ------
    ConfigError
        Names the filter and the nearest name, or those that there are.
    """
    names = _names(lineup)
    for settings in _levels(document):
        for parameter, setting in settings.items():
            for condition in setting.conditions:
                part = condition.part
                if part is not None and not any(part in name for name in names):
                    raise setting.where.error(
                        f"the `filter` {part!r} of `{parameter}` is in the name of none of the adapters' modules"
                        f"{_hint(part, names)}"
                    )


def _levels(document: Document) -> Iterator[Settings]:
    yield document.parameters
    for part in document.parts:
        yield part.parameters
        yield from (source.parameters for source in part.sources)


def _names(lineup: AdapterLineup) -> set[str]:
    """Names of weights that are merged, of what is saved whole or by its rows beside them among them."""
    names = {entry.weight_name for entry in lineup.entries}
    for adapter in lineup.adapters:
        names |= {*adapter.saved, *adapter.biases, *(f"{path}.weight" for path in adapter.tokens)}
    return names


def _hint(part: str, names: Iterable[str]) -> str:
    """Suggest the name that is most like a filter, of as many parts as it has."""
    length = part.count(".") + 1
    paths = [name.rpartition(".")[0].split(".") for name in names]
    ends = {".".join(path[-length:]) for path in paths}
    runs = {".".join(path[i : i + length]) for path in paths for i in range(len(path) - length + 1)}
    listed = sorted({path[-1] for path in paths})
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return nearest(part, ends) or nearest(part, runs) or f"; they are {', '.join(listed[:_NAMED])}{more}"
