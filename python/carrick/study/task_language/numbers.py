"""Every number of the report, computed once from the finished stages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.study.languages.tweets import load
from carrick.study.task_language.accounting import accounting
from carrick.study.task_language.coefficients import coefficients
from carrick.study.task_language.models import Model, models
from carrick.study.task_language.work import LOGITS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from carrick.study.stage import Finished
    from carrick.study.task_language.recipe import TaskLanguage

Labels = dict[str, "NDArray[np.int64]"]


@dataclass(frozen=True)
class Row:
    """Adapters of one making for one target language, over the seeds.

    Attributes
    ----------
    target, family
        What they have in common.
    answers
        By split and language (``test-en``): predicted classes, int [rows, seeds].
    """

    target: str
    family: str
    answers: Mapping[str, NDArray[np.int64]]


def found(recipe: TaskLanguage, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return the study's numbers as plain data."""
    labels = _labels(recipe, finished)
    known = models(recipe)
    rows = [row for target in recipe.targets for row in _rows(known, target, finished)]
    chosen = {target: _choose(recipe, rows, target, labels) for target in recipe.targets}
    return {
        "rows": [_described(recipe, row, labels) for row in rows],
        "chosen": chosen,
        "comparisons": _comparisons(recipe, rows, chosen, labels),
        "training": {model.name: _training(finished[model.name]) for model in known if model.way == "train"},
        "coefficients": coefficients(known, finished),
        "accounting": accounting(recipe, known, finished),
        "test_rows": {code: len(labels[f"test-{code}"]) for code in recipe.languages},
    }


def macro_f1_of_seeds(labels: NDArray[np.int64], answers: NDArray[np.int64], classes: int) -> float:
    """Return the mean over the seeds (columns of the answers) of the macro F1.

    Examples
    --------
    >>> labels = np.array([0, 1, 0, 1])
    >>> macro_f1_of_seeds(labels, np.stack([labels, 1 - labels], axis=1), 2)
    0.5
    """
    from carrick.evaluate.metrics.classification import macro_f1  # noqa: PLC0415  (an extra)

    return float(np.mean([macro_f1(labels, column, classes) for column in answers.T]))


def _rows(known: Sequence[Model], target: str, finished: Mapping[str, Finished]) -> list[Row]:
    """Return the rows of a target; what all targets share is in each."""
    names: dict[str, list[str]] = {}
    for model in known:
        if model.scored and model.target in {None, target}:
            names.setdefault(model.family, []).append(model.name)
    rows = []
    for family, of_seeds in names.items():
        files = [np.load(finished[f"score-{name}"].folder / LOGITS) for name in of_seeds]
        answers = {key: np.stack([file[key].argmax(axis=1) for file in files], axis=1) for key in files[0]}
        rows.append(Row(target, family, answers))
    return rows


def _described(recipe: TaskLanguage, row: Row, labels: Labels) -> dict[str, Any]:
    from carrick.evaluate.statistics import bootstrap_interval  # noqa: PLC0415  (scipy)

    classes = len(recipe.labels)
    scores = {}
    for code in (recipe.task_language, row.target):
        truth, answers = labels[f"test-{code}"], row.answers[f"test-{code}"]
        low, high, error = bootstrap_interval(
            lambda y, a: macro_f1_of_seeds(y, a, classes), truth, answers, seed=0, draws=recipe.draws
        )
        per_seed = [macro_f1_of_seeds(truth, answers[:, [s]], classes) for s in range(answers.shape[1])]
        scores["target" if code == row.target else "task"] = {
            "language": code,
            "macro_f1": float(np.mean(per_seed)),
            "low": low,
            "high": high,
            "standard_error": error,
            "per_seed": per_seed,
            "accuracy": float((answers == truth[:, None]).mean()),
        }
    return {"target": row.target, "family": row.family, "scores": scores}


def _choose(recipe: TaskLanguage, rows: Sequence[Row], target: str, labels: Labels) -> dict[str, Any]:
    """Choose initialisation and λ of the aligned merge by the mean validation macro F1 of both languages."""
    classes = len(recipe.labels)
    scores = {}
    for row in rows:
        if row.target == target and row.family.startswith("mlm/"):
            both = [
                macro_f1_of_seeds(labels[f"val-{code}"], row.answers[f"val-{code}"], classes)
                for code in (recipe.task_language, target)
            ]
            scores[row.family] = sum(both) / 2
    return {"family": max(scores, key=lambda family: scores[family]), "validation": scores}


def _comparisons(
    recipe: TaskLanguage, rows: Sequence[Row], chosen: Mapping[str, Any], labels: Labels
) -> list[dict[str, Any]]:
    """Return the paired differences that the findings rest on: second less first, macro F1."""
    by_name = {(row.target, row.family): row for row in rows}
    found: list[dict[str, Any]] = []
    for target in recipe.targets:
        best = chosen[target]["family"]
        pairs = [(family, best) for family in _rivals(recipe)]
        pairs += [("sum_average", f"cat/{kind}") for kind in recipe.coefficients]
        pairs += [("ties", "sum_average"), ("dare", "sum_average"), ("sum_average", "sum_addition")]
        pairs.append((best.replace("mlm/", "merge/"), best))
        for first, second in pairs:
            one, other = by_name[target, first], by_name[target, second]
            found += _both(recipe, target, first, second, one.answers, other.answers, labels)
        found += _pooled(recipe, target, by_name, labels)
    return found


def _rivals(recipe: TaskLanguage) -> list[str]:
    cat = [f"cat/{kind}" for kind in recipe.coefficients]
    return [
        "zero_shot",
        "task_adapter",
        "single",
        "mixed",
        "sum_average",
        "sum_addition",
        "ties",
        "dare",
        *cat,
    ]


def _pooled(
    recipe: TaskLanguage, target: str, by_name: Mapping[tuple[str, str], Row], labels: Labels
) -> list[dict[str, Any]]:
    """Compare λ over all initialisations, and initialisations over all λ; columns are runs then."""

    def runs(way: str, kinds: Sequence[str], weights: Sequence[float]) -> dict[str, NDArray[np.int64]]:
        chosen = [by_name[target, f"{way}/{kind}/{weight:g}"] for kind in kinds for weight in weights]
        return {
            key: np.concatenate([row.answers[key] for row in chosen], axis=1) for key in chosen[0].answers
        }

    found: list[dict[str, Any]] = []
    kinds, weights = recipe.initialisations, recipe.weights
    for way in ("merge", "mlm"):
        if {0.5, 1.0} <= set(weights):
            one, other = runs(way, kinds, [0.5]), runs(way, kinds, [1.0])
            found += _both(recipe, target, f"{way}/*/0.5", f"{way}/*/1", one, other, labels)
        for kind in kinds[1:]:
            one, other = runs(way, kinds[:1], weights), runs(way, [kind], weights)
            found += _both(recipe, target, f"{way}/{kinds[0]}/*", f"{way}/{kind}/*", one, other, labels)
    return found


def _both(  # noqa: PLR0917
    recipe: TaskLanguage,
    target: str,
    first: str,
    second: str,
    one: Mapping[str, NDArray[np.int64]],
    other: Mapping[str, NDArray[np.int64]],
    labels: Labels,
) -> list[dict[str, Any]]:
    """Compare two ways on the task's language and on the target."""
    from carrick.evaluate.statistics import paired_bootstrap  # noqa: PLC0415

    classes = len(recipe.labels)
    compared = []
    for place, code in (("task", recipe.task_language), ("target", target)):
        key = f"test-{code}"
        # The same number of columns: a single run is compared with itself as often as there are seeds.
        width = max(one[key].shape[1], other[key].shape[1])
        columns = [np.resize(np.arange(each[key].shape[1]), width) for each in (one, other)]
        result = paired_bootstrap(
            lambda y, a: macro_f1_of_seeds(y, a, classes),
            one[key][:, columns[0]],
            other[key][:, columns[1]],
            labels[key],
            seed=0,
            draws=recipe.draws,
        )
        compared.append(
            {
                "target": target,
                "on": place,
                "language": code,
                "first": first,
                "second": second,
                "difference": result.difference,
                "low": result.low,
                "high": result.high,
                "p": result.p,
            }
        )
    return compared


def _training(done: Finished) -> dict[str, Any]:
    """Return what a training took; its losses stay in the stage's folder.

    (``method_block`` is what earlier runs left: always empty.)
    """
    kept = {key: value for key, value in done.result.items() if key not in {"losses", "method_block"}}
    return {**kept, "cpu_seconds": done.cpu_seconds}


def _labels(recipe: TaskLanguage, finished: Mapping[str, Finished]) -> Labels:
    return {
        f"{split}-{code}": np.array(load(finished[f"data-{code}"].folder, split)[1])
        for code in recipe.languages
        for split in ("test", "val")
    }
