"""Every number of the report at full scale: choices among partitions, tables, Friedman's test, indicators."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError
from carrick.study.layer_swap.indicators import correlation
from carrick.study.xlt.conditions import Condition, conditions, models
from carrick.study.xlt.stages import BASE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.study.layer_swap.models import Model
    from carrick.study.stage import Finished
    from carrick.study.xlt.recipe import Xlt

TREATMENTS = ("math", "language", "mixing", "simultaneous", "swap", "swap_partial")
# Families of which the best of A, B and C is shown.
CHOSEN = ("swap", "swap_partial", "simultaneous", "math_partial", "language_partial")
_SIGNALS = (
    ("math", "mgsm", "en"),
    ("math", "mgsm", None),
    ("language", "belebele", None),
    ("language", "mgsm", None),
)


def found(recipe: Xlt, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return the study's numbers as plain data."""
    scores = Scores(recipe, finished)
    chosen = _choose(recipe, scores)
    rows = [_row(recipe, scores, condition, chosen) for condition in conditions(recipe)]
    names = [name for name in finished if "wall_seconds" in finished[name].result]
    return {
        "chosen": chosen,
        "conditions": rows,
        "friedman": _friedman(rows),
        "freeze": _freeze(recipe, scores),
        "indicators": _indicators(recipe, scores),
        "training": {name: dict(finished[name].result) for name in names},
    }


class Scores:
    """Accuracies of the models of every condition.

    Parameters
    ----------
    recipe, finished
        What was done.
    """

    def __init__(self, recipe: Xlt, finished: Mapping[str, Finished]) -> None:
        self._finished, self._shots = finished, recipe.shots

    def of(self, condition: Condition, model: Model | None, task: str, language: str) -> float | None:
        """Return a score, None where the task was not asked in this language."""
        name = f"{condition.base}-{BASE}" if model is None else condition.name(model)
        by_task = self._finished[f"score-{name}"].result["scores"]
        shots = self._shots.get(task, self._shots["mgsm"])
        by_language = by_task.get(f"{task}/{shots}", {})
        return by_language[language]["value"] if language in by_language else None

    def mgsm(self, condition: Condition, model: Model | None, language: str) -> float:
        """Return a score of MGSM, which every model is asked in its own language and in English.

        Raises
        ------
        CarrickError
            It is not there: a table with something else in its place would be wrong.
        """
        value = self.of(condition, model, "mgsm", language)
        if value is None:
            name = f"{condition.base}-{BASE}" if model is None else condition.name(model)
            raise CarrickError(f"stage score-{name} has no score of mgsm in {language}; run it again")
        return value


def _groups(recipe: Xlt, condition: Condition) -> dict[tuple[str, str], list[Model]]:
    """Return models by kind and family, of simultaneous training those of the first number of steps alone."""
    grouped: dict[tuple[str, str], list[Model]] = {}
    first = recipe.simultaneous.steps_per_switch[0]
    for model in models(recipe, condition):
        if model.steps_per_switch in {None, first}:
            grouped.setdefault((model.kind, model.family), []).append(model)
    return grouped


def _choose(recipe: Xlt, scores: Scores) -> dict[str, dict[str, str]]:
    """Choose A, B or C for each base, kind and family by the mean of the selection task over its languages."""
    chosen: dict[str, dict[str, str]] = {}
    for condition in conditions(recipe):
        key = condition.base + ("-cpt" if condition.continual else "")
        others = [
            one
            for one in conditions(recipe)
            if (one.base, one.continual) == (condition.base, condition.continual)
        ]
        for kind, family in _groups(recipe, condition):
            if family in CHOSEN and f"{kind}/{family}" not in chosen.get(key, {}):
                means = {}
                for p in "ABC":
                    known = [
                        value
                        for one in others
                        for model in _groups(recipe, one)[kind, family]
                        if model.partition == p
                        and (value := scores.of(one, model, recipe.selection, one.language)) is not None
                    ]
                    if known:
                        means[p] = fmean(known)
                best = max(means, key=lambda p: means[p]) if means else "C"
                chosen.setdefault(key, {})[f"{kind}/{family}"] = best
    return chosen


def _row(
    recipe: Xlt, scores: Scores, condition: Condition, chosen: Mapping[str, Mapping[str, str]]
) -> dict[str, Any]:
    """Return MGSM in the language and in English of every treatment of a condition, mean over seeds."""
    key = condition.base + ("-cpt" if condition.continual else "")
    rows = {BASE: _both(scores, condition, [None])}
    for (kind, family), group in _groups(recipe, condition).items():
        name = f"{kind}/{family}"
        if family in CHOSEN:
            group = [model for model in group if model.partition == chosen[key][name]]  # noqa: PLW2901
        elif family == "reset":
            continue
        rows[name] = _both(scores, condition, group)
    return {"condition": condition.id, "language": condition.language, "rows": rows}


def _both(scores: Scores, condition: Condition, group: list[Any]) -> dict[str, float]:
    languages = {"target": condition.language, "en": "en"}
    return {
        side: fmean(scores.mgsm(condition, model, code) for model in group)
        for side, code in languages.items()
    }


def _friedman(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Test treatments over conditions, full fine-tuning and LoRA apart, as the paper does over 12 of them."""
    from carrick.evaluate.statistics import friedman  # noqa: PLC0415  (scipy)

    tests = {}
    for kind in ("full", "lora"):
        blocks = [row["rows"] for row in rows if not row["condition"].endswith("-cpt")]
        treatments = [way for way in TREATMENTS if all(f"{kind}/{way}" in block for block in blocks)]
        table = [[block[f"{kind}/{way}"]["target"] for block in blocks] for way in treatments]
        if len(table) >= 3 and len(blocks) >= 2:
            tested = friedman(table)
            tests[kind] = {
                "treatments": treatments,
                "blocks": tested.blocks,
                "statistic": tested.statistic,
                "p": tested.p,
                "mean_ranks": list(tested.mean_ranks),
                "critical_difference": tested.critical_difference,
            }
    return tests


def _freeze(recipe: Xlt, scores: Scores) -> dict[str, dict[str, float]]:
    """Return English MGSM of the math expert, frozen and reset, mean over bases and seeds, full fine-tuning."""
    firsts = {condition.base: condition for condition in conditions(recipe) if not condition.continual}
    table = {}
    for p in "ABCZ":
        found_: dict[str, list[float]] = {"math_partial": [], "reset": []}
        for condition in firsts.values():
            for model in models(recipe, condition):
                if model.kind == "full" and model.partition == p and model.family in found_:
                    found_[model.family].append(scores.mgsm(condition, model, "en"))
        table[p] = {"frozen": fmean(found_["math_partial"]), "reset": fmean(found_["reset"])}
    return table


def _indicators(recipe: Xlt, scores: Scores) -> dict[str, Any]:
    """Return correlations of experts' own scores with the swap's MGSM in the language, over all runs."""
    points = []
    for condition in conditions(recipe):
        by_name = {model.name: model for model in models(recipe, condition)}
        for model in by_name.values():
            if model.family in {"swap", "swap_partial"} and model.partition != "Z":
                experts = dict(
                    zip(("math", "language"), (by_name[name] for name in model.experts), strict=True)
                )
                point: dict[str, Any] = {"merged": scores.of(condition, model, "mgsm", condition.language)}
                for expert, task, code in _SIGNALS:
                    point[f"{expert}/{task}/{code or 'target'}"] = scores.of(
                        condition, experts[expert], task, code or condition.language
                    )
                points.append(point)
    complete = [point for point in points if None not in point.values()]
    signals = [f"{expert}/{task}/{code or 'target'}" for expert, task, code in _SIGNALS]
    return {signal: correlation(complete, signal) for signal in signals}
