"""From the scores of single rows to a score with its standard error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.evaluate.metrics.classification import macro
from carrick.evaluate.report import Score
from carrick.evaluate.statistics import bootstrap_interval
from carrick.evaluate.tasks import scoring

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

DRAWS = 1000


def aggregate(
    samples: Sequence[dict[str, Any]],
    metrics: Sequence[dict[str, Any]],
    classes: Sequence[str],
    seed: int,
) -> dict[str, Score]:
    """Put the rows' scores together as the YAML file says.

    Parameters
    ----------
    samples
        One for each row, with its scores by name.
    metrics
        The YAML file's `metric_list`.
    classes
        Names of the classes, where (right, answered) pairs number them.
    seed
        Of the bootstrap.
    """
    scores: dict[str, Score] = {}
    for metric in metrics:
        name, values = metric["metric"], [sample[metric["metric"]] for sample in samples]
        if metric["aggregation"] is scoring.macro_f1:
            right, answered = np.array(values, dtype=np.int64).T
            scores |= classified(right, answered, len(classes), seed)
        elif metric["aggregation"] is scoring.ratio:
            scores[name] = pooled_ratio(values, seed)
        else:
            scores[name] = mean(values)
    return scores


def mean(values: ArrayLike) -> Score:
    """Mean of the rows' scores, and the standard error s / √n of it.

    Examples
    --------
    >>> mean([0.0, 1.0, 1.0, 0.0])
    Score(value=0.5, standard_error=0.28867513459481287)
    """
    array = np.asarray(values, dtype=np.float64)
    error = float(array.std(ddof=1) / math.sqrt(len(array))) if len(array) > 1 else None
    return Score(float(array.mean()), error)


def classified(
    right: NDArray[np.int64], answered: NDArray[np.int64], classes: int, seed: int
) -> dict[str, Score]:
    """Macro F1, precision and recall, with bootstrap standard errors.

    Parameters
    ----------
    right, answered
        Classes of each row, 0 … classes - 1; any other answer is none of them.
    classes
        How many there are.
    seed
        Of the bootstrap.
    """
    whole = macro(right, answered, classes)
    found = {}
    for place, part in enumerate(whole._fields):
        # The same seed draws the same rows for each.
        drawn = bootstrap_interval(
            lambda a, b, place=place: macro(a, b, classes)[place], right, answered, seed=seed, draws=DRAWS
        )
        found[f"macro_{part}"] = Score(whole[place], drawn.standard_error if len(right) > 1 else None)
    return {name: found[name] for name in ("macro_f1", "macro_precision", "macro_recall")}


def pooled_ratio(pairs: Sequence[tuple[int, int]], seed: int) -> Score:
    """Rate of (examples, of which missing) over all rows, the error by drawing rows; NaN without an example."""
    counts, missing = np.array(pairs, dtype=np.float64).T
    if counts.sum() == 0:
        return Score(math.nan, None)

    def rate(counted: NDArray[np.float64], gone: NDArray[np.float64]) -> float:
        # A draw without any example says nothing; it takes the place of the whole.
        total = counted.sum()
        return float(gone.sum() / total) if total else float(missing.sum() / counts.sum())

    drawn = bootstrap_interval(rate, counts, missing, seed=seed, draws=DRAWS)
    return Score(rate(counts, missing), drawn.standard_error if len(counts) > 1 else None)


def perplexity_of(per_text: Sequence[tuple[float, int]], seed: int) -> Score:
    """Perplexity exp(Σ nll / Σ tokens) over texts, the error by drawing texts."""
    # A text without a token to predict says nothing.
    nll, tokens = np.array([each for each in per_text if each[1]], dtype=np.float64).T

    def value(losses: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
        return math.exp(min(losses.sum() / counts.sum(), 700.0))

    error = None
    if len(nll) > 1:
        error = bootstrap_interval(value, nll, tokens, seed=seed, draws=DRAWS).standard_error
    return Score(value(nll, tokens), error)
