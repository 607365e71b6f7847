"""Filters of a configuration's values: one that fits no module would be dropped without a word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.plan.filters import listed_parts, nearest_part, unmatched_filters

if TYPE_CHECKING:
    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.config import Document


def refuse_unmatched(document: Document, lineup: AdapterLineup) -> None:
    """Raise for a `filter` that is part of no name that a value can be asked for.

    Raises
    ------
    ConfigError
        Names the filter and the nearest name, or those that there are.
    """
    names = _names(lineup)
    for one in unmatched_filters(document, names):
        hint = nearest_part(one.part, names) or f"; they are {listed_parts(names)}"
        raise one.where.error(
            f"the `filter` {one.part!r} of `{one.parameter}` is in the name of none of the adapters' modules{hint}"
        )


def _names(lineup: AdapterLineup) -> set[str]:
    """Names of weights that are merged, of what is saved whole or by its rows beside them among them."""
    names = {entry.weight_name for entry in lineup.entries}
    for adapter in lineup.adapters:
        names |= {*adapter.saved, *adapter.biases, *(f"{path}.weight" for path in adapter.tokens)}
    return names
