"""Stages in an order in which they can run, with what is done already."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Literal

from carrick.errors import ConfigError
from carrick.study.keys import stage_key
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.study.stage import Stage
    from carrick.study.store import Store

State = Literal["done", "new", "changed", "interrupted", "no input"]


@dataclass(frozen=True, slots=True)
class Planned:
    """A stage and whether it has to run.

    Attributes
    ----------
    stage
        The stage.
    key
        Its content key; empty where a file it reads is not there.
    needs, files
        Keys and checksums that went into the key.
    state
        ``done`` (the key matches what lies in its folder), ``new``, ``changed`` (finished from other inputs),
        ``interrupted`` (begun with the same inputs), ``no input``.
    missing
        Files that are not there.
    priority
        Expected seconds of the longest chain of stages that waits for this one, itself included.
    """

    stage: Stage
    key: str
    needs: dict[str, str]
    files: dict[str, str]
    state: State
    missing: tuple[str, ...] = ()
    priority: float = 0.0


def plan(stages: Sequence[Stage], store: Store) -> list[Planned]:
    """Order stages and find out which of them are done.

    Raises
    ------
    ConfigError
        Two stages of one name, a need that no stage meets, a circle.
    """
    ordered = in_order(stages)
    weights = chains(ordered)
    planned: dict[str, Planned] = {}
    for stage in ordered:
        files, missing = {}, []
        for name, path in sorted(stage.files.items()):
            try:
                files[name] = store.checksums.of(path)
            except OSError:
                missing.append(f"{name}: {path}")
        needs = {name: planned[name].key for name in stage.needs}
        known = not missing and all(needs.values())
        key = stage_key(stage, needs, files) if known else ""
        state = _state(stage.name, key, store)
        planned[stage.name] = Planned(stage, key, needs, files, state, tuple(missing), weights[stage.name])
    return list(planned.values())


def in_order(stages: Sequence[Stage]) -> list[Stage]:
    """Sort stages so that each comes after those it needs, otherwise in the order they are given.

    Raises
    ------
    ConfigError
        Two stages of one name, a need that no stage meets, a circle.

    Examples
    --------
    >>> from carrick.study.stage import Stage
    >>> [stage.name for stage in in_order([Stage("b", "m:f", needs=("a",)), Stage("a", "m:f")])]
    ['a', 'b']
    """
    named = {stage.name: stage for stage in stages}
    if len(named) < len(stages):
        twice = next(s.name for i, s in enumerate(stages) if s.name in {t.name for t in stages[:i]})
        raise ConfigError(f"two stages are called `{twice}`")
    for stage in stages:
        for need in stage.needs:
            if need not in named:
                raise ConfigError(
                    f"stage {stage.name} needs `{need}`, which is no stage{nearest(need, named)}"
                )
    try:
        TopologicalSorter({stage.name: stage.needs for stage in stages}).prepare()
    except CycleError as error:
        raise ConfigError(f"stages wait for each other: {' → '.join(error.args[1])}") from None
    ordered: dict[str, Stage] = {}

    def add(stage: Stage) -> None:
        for need in stage.needs:
            if need not in ordered:
                add(named[need])
        ordered.setdefault(stage.name, stage)

    for stage in stages:
        add(stage)
    return list(ordered.values())


def chains(ordered: Sequence[Stage]) -> dict[str, float]:
    """Return the expected seconds of the longest chain from each stage to the end of the study."""
    longest: dict[str, float] = {}
    behind: dict[str, float] = {}
    for stage in reversed(ordered):
        longest[stage.name] = stage.work.seconds + behind.get(stage.name, 0.0)
        for need in stage.needs:
            behind[need] = max(behind.get(need, 0.0), longest[stage.name])
    return longest


def _state(name: str, key: str, store: Store) -> State:
    if not key:
        return "no input"
    record = store.record(name)
    if record is not None:
        return "done" if record["key"] == key else "changed"
    return "interrupted" if store.begun(name) == key else "new"
