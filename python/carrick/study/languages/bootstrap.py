"""Scores of the report's rows and differences between them: errors over drawn test rows, spread over seeds."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from carrick.study.languages.recipe import LanguagesRecipe

    # Predicted classes of a row of the report: language → (rows, seeds).
    Answers = dict[str, NDArray[np.int64]]

_SEED = 0


def row_scores(
    recipe: LanguagesRecipe, labels: Mapping[str, NDArray[np.int64]], answers: Answers
) -> dict[str, Any]:
    """Scores per language and overall: mean over seeds, standard error over rows, spread over seeds."""
    from carrick.evaluate.metrics.classification import macro_f1, scores  # noqa: PLC0415
    from carrick.evaluate.statistics import bootstrap_interval  # noqa: PLC0415

    classes = len(recipe.labels)

    def mean_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
        """Mean over the seeds of the macro F1 on the same rows."""
        return float(np.mean([macro_f1(truth, column, classes) for column in predicted.T]))

    names = ("macro_f1", "macro_precision", "macro_recall", "accuracy")
    languages: dict[str, Any] = {}
    for code, predicted in answers.items():
        each = [scores(labels[code], column, range(classes)) for column in predicted.T]
        languages[code] = {name: _over_seeds([float(one[name]) for one in each]) for name in names}  # type: ignore[literal-required]
        low, high, error = bootstrap_interval(
            mean_f1, labels[code], predicted, seed=_SEED, draws=recipe.draws
        )
        languages[code]["macro_f1"] |= {"row_error": error, "low": low, "high": high}
    overall = {}
    for name in names:
        by_seed = zip(*(languages[code][name]["seeds"] for code in languages), strict=True)
        overall[name] = _over_seeds([statistics.fmean(values) for values in by_seed])
    # The languages' rows are drawn apart: variances of a mean of independent numbers add up.
    errors = [languages[code]["macro_f1"]["row_error"] for code in languages]
    overall["macro_f1"]["row_error"] = math.sqrt(sum(error**2 for error in errors)) / len(errors)
    return {"languages": languages, "overall": overall}


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "seed_spread": statistics.stdev(values) if len(values) > 1 else None,
        "seeds": list(values),
    }


def difference(
    recipe: LanguagesRecipe,
    labels: Mapping[str, NDArray[np.int64]],
    first: Answers,
    second: Answers,
    codes: Sequence[str],
) -> dict[str, Any]:
    """Mean macro F1 over languages of the second row less the first, by the paired bootstrap: same rows and seeds."""
    from carrick.evaluate.metrics.classification import macro_f1  # noqa: PLC0415
    from carrick.evaluate.statistics import paired_bootstrap  # noqa: PLC0415

    classes, seeds = len(recipe.labels), len(recipe.seeds)

    def by_seed(keys: NDArray[np.int64], predicted: NDArray[np.int64]) -> list[float]:
        chosen = [keys[:, 0] == place for place in range(len(codes))]
        return [
            float(np.mean([macro_f1(keys[rows, 1], column[rows], classes) for rows in chosen]))
            for column in predicted.T
        ]

    def overall(keys: NDArray[np.int64], predicted: NDArray[np.int64]) -> float:
        return statistics.fmean(by_seed(keys, predicted))

    keys, one = _pooled(labels, first, codes, seeds)
    _, other = _pooled(labels, second, codes, seeds)
    result = paired_bootstrap(overall, one, other, keys, seed=_SEED, draws=recipe.draws)
    apart = [b - a for a, b in zip(by_seed(keys, one), by_seed(keys, other), strict=True)]
    return {**result._asdict(), "seeds": apart}


def changes(
    recipe: LanguagesRecipe, labels: Mapping[str, NDArray[np.int64]], before: Answers, after: Answers
) -> dict[str, Any]:
    """Return the difference of two rows language by language."""
    return {code: difference(recipe, labels, before, after, [code]) for code in recipe.languages}


def _pooled(
    labels: Mapping[str, NDArray[np.int64]], answers: Answers, codes: Sequence[str], seeds: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of some languages one below the other: (language, label), and the answers of each seed."""
    keys = [
        np.stack([np.full(len(labels[code]), place), labels[code]], axis=1)
        for place, code in enumerate(codes)
    ]
    # The base without adapter has no seeds: the same answers stand against each of the others'.
    columns = [np.broadcast_to(answers[code], (len(answers[code]), seeds)) for code in codes]
    return np.concatenate(keys), np.concatenate(columns)
