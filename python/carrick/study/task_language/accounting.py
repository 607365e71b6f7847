"""Samples, training time and adapters of each way, as target languages are added (MLM §4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.stage import Finished
    from carrick.study.task_language.models import Model
    from carrick.study.task_language.recipe import TaskLanguage

COUNTS = (1, 2, 5, 10)
# Families of what a way trains: once, and for each target language.
WAYS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "mlm": (("task_adapter",), ("la/", "mlm/")),
    "cat": (("task_adapter",), ("single", "cat/")),
    "sum": (("task_adapter",), ("single",)),
    "mixed": ((), ("mixed",)),
}


def accounting(
    recipe: TaskLanguage, models: Sequence[Model], finished: Mapping[str, Finished]
) -> dict[str, Any]:
    """Return samples seen, seconds and adapters trained of each way for 1, 2, 5 and 10 target languages.

    Samples and seconds of one language are the mean over targets, seeds and variants that were trained here; more
    languages are this mean times their number. ``sum`` stands for every merge of adapters trained apart: simple sum,
    TIES and DARE. Adapters counts those that have to be kept to add a further language or to merge anew.
    """
    means = {family: _mean(models, finished, family) for family in _families()}
    return {
        "counts": list(COUNTS),
        "per_training": means,
        "ways": {
            way: [_total(means, once, each, count) for count in COUNTS] for way, (once, each) in WAYS.items()
        },
        "sample": recipe.sample,
    }


def _families() -> set[str]:
    return {family for once, each in WAYS.values() for family in (*once, *each)}


def _mean(models: Sequence[Model], finished: Mapping[str, Finished], family: str) -> dict[str, float]:
    done = [
        finished[model.name].result
        for model in models
        if model.way == "train" and (model.family == family or model.family.startswith(family))
    ]
    return {
        key: sum(float(result[key] or 0) for result in done) / max(1, len(done))
        for key in ("samples_seen", "device_seconds")
    }


def _total(
    means: Mapping[str, Mapping[str, float]], once: Sequence[str], each: Sequence[str], count: int
) -> dict[str, float]:
    total = {
        key: sum(means[family][key] for family in once) + count * sum(means[family][key] for family in each)
        for key in ("samples_seen", "device_seconds")
    }
    # Alignment and CAT leave a merged adapter, which is derived; kept are the adapters it is made of.
    return {**total, "adapters": len(once) + count}
