"""Every number of the report at full scale, from the evaluations and the training records."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

from carrick.study.lsm.stages import CASE, COMBINED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.lsm.recipe import LsmRecipe
    from carrick.study.stage import Finished

INDIVIDUAL = "indv"


def found(recipe: LsmRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return every number of the report as plain data."""
    main, small = recipe.main, recipe.size_ablation.model
    tables = [(main, name, task, recipe.languages) for name, task in recipe.tasks.items()]
    tables += [(small, name, recipe.tasks[name], recipe.languages) for name in recipe.size_ablation.tasks]
    tables.append((main, CASE, recipe.case_study.task, recipe.case_study.languages))
    return {
        "tables": [
            {
                "model": model,
                "task": name,
                "metric": metric,
                "encoder": task.bertscore if metric == "bertscore" else None,
                "languages": list(codes),
                "rows": _rows(recipe, finished, model=model, name=name, metric=metric, codes=codes),
            }
            for model, name, task, codes in tables
            for metric in ([task.metric] if task.bertscore is None else ["bertscore", task.metric])
        ],
        "efficiency": [_efficiency(recipe, finished, update, codes) for update, codes in _updates(recipe)],
    }


def _updates(recipe: LsmRecipe) -> list[tuple[dict[str, str], list[str]]]:
    """Name the updates of one language: its task, the language, the merge that takes it in."""
    update, case = recipe.update, recipe.case_study
    return [
        ({"task": update.task, "language": update.language, "merged": "updated"}, recipe.languages),
        ({"task": CASE, "language": case.update.language, "merged": "weighted+"}, case.languages),
    ]


def _rows(
    recipe: LsmRecipe,
    finished: Mapping[str, Finished],
    *,
    model: str,
    name: str,
    metric: str,
    codes: Sequence[str],
) -> dict[str, Any]:
    """Scores of each row by language; INDV takes each language from its own adapter."""
    prefix = f"score-{model}-{name}-"
    titles = list(
        dict.fromkeys(
            stage.removeprefix(prefix).rpartition("-")[0] for stage in finished if stage.startswith(prefix)
        )
    )
    rows = {INDIVIDUAL: {code: code for code in codes}}
    rows |= {title: dict.fromkeys(codes, title) for title in titles if title not in codes}
    return {row: _row(recipe, finished, prefix, stages, metric) for row, stages in rows.items()}


def _row(
    recipe: LsmRecipe, finished: Mapping[str, Finished], prefix: str, stages: Mapping[str, str], metric: str
) -> dict[str, Any]:
    languages: dict[str, Any] = {}
    values, errors = [], []
    for code, title in stages.items():
        runs = [finished[f"{prefix}{title}-{seed}"].result["scores"] for seed in recipe.seeds]
        known = [run[code][metric] for run in runs if code in run]  # a cluster has some languages alone
        if not known:
            continue
        seeds = [float(value) for value, _ in known]
        certain = [float(error) for _, error in known if error is not None]
        error = statistics.fmean(certain) if len(certain) == len(known) else None
        languages[code] = {"value": statistics.fmean(seeds), "row_error": error, "seeds": seeds}
        values.append(languages[code]["value"])
        errors += [error] if error is not None else []
    complete = len(errors) == len(values)
    return {
        "languages": languages,
        "overall": statistics.fmean(values),
        "overall_error": math.hypot(*errors) / len(values) if complete else None,
    }


def _efficiency(
    recipe: LsmRecipe,
    finished: Mapping[str, Finished],
    update: Mapping[str, str],
    codes: Sequence[str],
) -> dict[str, Any]:
    """Time (the longest of parallel runs) and cost (the sum of device seconds), mean over seeds."""
    model, task, language, merged = recipe.main, update["task"], update["language"], update["merged"]

    def mean(stage: str, clock: str) -> float:
        return statistics.fmean(finished[f"{stage}-{seed}"].result[clock] for seed in recipe.seeds)

    prefix = f"train-{model}-{task}"
    merging = mean(f"merge-{model}-{task}-{merged}", "merge_seconds")
    clocks = {"time": "wall_seconds", "cost": "device_seconds"}
    values: dict[str, dict[str, float]] = {}
    for kind, clock in clocks.items():
        single = [mean(f"{prefix}-{code}", clock) for code in codes]
        values[kind] = {
            "build_merged": (max(single) if kind == "time" else sum(single)) + merging,
            "build_combined": mean(f"{prefix}-{COMBINED}", clock),
            "update_merged": mean(f"{prefix}-{language}+", clock) + merging,
            "update_combined": mean(f"{prefix}-{COMBINED}+", clock),
        }
    return {
        "task": task,
        "language": language,
        "seconds": values,
        "quotients": {
            kind: {
                "build": each["build_combined"] / each["build_merged"],
                "update": each["update_combined"] / each["update_merged"],
            }
            for kind, each in values.items()
        },
        "price": recipe.device.price,
        "currency": recipe.device.currency,
    }
