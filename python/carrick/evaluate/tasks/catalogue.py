"""Every task there is, by name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carrick.errors import ConfigError
from carrick.evaluate.tasks import (
    belebele,
    commonsense,
    global_mmlu,
    gsm8k,
    mgsm,
    mmlu_prox,
    msvamp,
    sentiment,
    summarisation,
    supporting_examples,
    texts,
    xcopa,
)
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrick.evaluate.tasks.family import Family

PERPLEXITY = texts.FAMILY
SUMMARIES = summarisation.FAMILY.name
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        mgsm.FAMILY,
        mgsm.DIRECT,
        msvamp.FAMILY,
        gsm8k.FAMILY,
        belebele.FAMILY,
        global_mmlu.FAMILY,
        mmlu_prox.FAMILY,
        xcopa.FAMILY,
        commonsense.JCOMMONSENSEQA,
        commonsense.MCSQA,
        sentiment.FAMILY,
        sentiment.GENERATION,
        summarisation.FAMILY,
        supporting_examples.FAMILY,
        PERPLEXITY,
    )
}


def family(name: str) -> Family:
    """Return the task of that name.

    Raises
    ------
    ConfigError
        There is none.
    """
    if name not in FAMILIES:
        hint = nearest(name, FAMILIES) or f"; the tasks are {', '.join(FAMILIES)}"
        raise ConfigError(f"there is no task `{name}`{hint}")
    return FAMILIES[name]


def yaml_file(name: str) -> Path:
    """Return the harness's file of a task."""
    return Path(__file__).with_name(f"{name}.yaml")


def chosen(
    tasks: Iterable[str], data: Path | None, languages: Iterable[str] | None
) -> list[tuple[Family, str]]:
    """Return every task with every language that is to be run.

    Parameters
    ----------
    tasks
        Names of tasks.
    data
        The data folder; None for the Hub.
    languages
        Codes; None takes every language that a task has there. A task without one of them is passed over
        when another task has it, since benchmarks differ in their languages.

    Raises
    ------
    ConfigError
        An unknown task, a language that no task has, a task that has none of the languages, or no folder.
    """
    families = [family(name) for name in dict.fromkeys(tasks)]
    if not families:
        raise ConfigError(f"name a task with --tasks; the tasks are {', '.join(FAMILIES)}")
    for each in families:
        if data is None and not each.hub:
            raise ConfigError(f"the task {each.name} reads local files: give --data")
    there = {each.name: each.available(data) for each in families}
    wanted = None if languages is None else list(dict.fromkeys(languages))
    for language in wanted or []:
        if not any(language in codes for codes in there.values()):
            families[0].check_language(data, language)
    found = [
        (each, language)
        for each in families
        for language in (there[each.name] if wanted is None else wanted)
        if language in there[each.name]
    ]
    for each in families:
        if not any(one is each for one, _ in found):
            if data is not None and not there[each.name]:
                raise ConfigError(each.no_file(data, next(iter(wanted or each.languages))))
            have = ", ".join(there[each.name])
            raise ConfigError(f"the task {each.name} has none of the languages asked for; it has {have}")
    return found
