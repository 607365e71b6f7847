"""Whose task the merged adapter has: modules saved whole, a classifier's head say, belong to one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.adapter import Adapter


def task_of_saved(adapters: Sequence[Adapter]) -> int:
    """Find the first adapter that trained modules whole; the first of all where none did."""
    return next((i for i, one in enumerate(adapters) if one.saved.keys() - one.carried), 0)


def task_notes(adapters: Sequence[Adapter], chosen: int) -> list[str]:
    """Say that the adapters are of different tasks, and whose is written.

    Parameters
    ----------
    adapters
        Those that are merged.
    chosen
        The one whose `task_type` the result has.
    """
    first: dict[str, str] = {}
    for adapter in adapters:
        if adapter.config.task_type is not None:
            first.setdefault(adapter.config.task_type, adapter.ref)
    if len(first) < 2:
        return []
    listed = ", ".join(f"{task} in {ref}" for task, ref in first.items())
    one = adapters[chosen]
    return [f"`task_type` differs ({listed}); {one.config.task_type}, that of {one.ref}, is written."]
