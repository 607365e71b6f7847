"""Accuracy, precision, recall and F1 of predicted classes, and their mean over languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray


class ClassScores(TypedDict):
    """Scores of one class; `support` is its number of rows."""

    precision: float
    recall: float
    f1: float
    support: int


class Scores(TypedDict):
    """Scores of one set of predictions, each between 0 and 1.

    `per_class` has the classes' names as keys; `confusion[i][j]` counts rows of class i that were answered j,
    the last column those answered with something else; `outside` is the share of these.
    """

    rows: int
    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    micro_precision: float
    micro_recall: float
    micro_f1: float
    outside: float
    per_class: dict[str, ClassScores]
    confusion: list[list[int]]


def scores(
    labels: Sequence[Any] | ArrayLike, predicted: Sequence[Any] | ArrayLike, classes: Sequence[Any]
) -> Scores:
    """Score predictions against labels with scikit-learn.

    Macro scores are unweighted means over all `classes`, those that no row has included; a quotient of zero
    by zero counts as 0 (no answer was ever this class, or no row is). An answer outside `classes` is wrong:
    it lowers the recall of its row's class and the accuracy, and no precision but the micro one.

    Parameters
    ----------
    labels, predicted
        The right class and the answered one of each row; as long as each other.
    classes
        Every class there is, in the order of the confusion matrix.

    Raises
    ------
    CarrickError
        No rows, lengths that differ, or a label that is none of `classes`.

    Examples
    --------
    >>> found = scores(["a", "a", "b", "b"], ["a", "b", "b", "?"], classes=["a", "b"])
    >>> found["accuracy"], found["per_class"]["b"]["precision"], found["outside"]
    (0.5, 0.5, 0.25)
    >>> found["confusion"]
    [[1, 1, 0], [0, 1, 1]]
    """
    from sklearn.metrics import (  # noqa: PLC0415  (an extra)
        precision_recall_fscore_support,
    )

    truth, answers = _codes(labels, classes), _codes(predicted, classes)
    _check(truth, answers, labels, classes)
    # Codes 0 … k-1 are the classes, k is every other answer.
    known = list(range(len(classes)))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, answers, labels=known, zero_division=0.0
    )
    rows = len(truth)
    right = int((truth == answers).sum())
    # Each row has one label and one answer, so micro precision, recall and F1 all are the accuracy.
    accuracy = right / rows
    confusion = np.zeros((len(classes), len(classes) + 1), dtype=int)
    np.add.at(confusion, (truth, answers), 1)
    return Scores(
        rows=rows,
        accuracy=accuracy,
        macro_precision=float(np.mean(precision)),
        macro_recall=float(np.mean(recall)),
        macro_f1=float(np.mean(f1)),
        micro_precision=accuracy,
        micro_recall=accuracy,
        micro_f1=accuracy,
        outside=float((answers == len(classes)).mean()),
        per_class={
            str(name): ClassScores(
                precision=float(precision[code]),
                recall=float(recall[code]),
                f1=float(f1[code]),
                support=int(support[code]),
            )
            for code, name in enumerate(classes)
        },
        confusion=confusion.tolist(),
    )


def _codes(values: Sequence[Any] | ArrayLike, classes: Sequence[Any]) -> NDArray[np.int64]:
    code = {name: place for place, name in enumerate(classes)}
    if len(code) != len(classes):
        raise CarrickError(f"the classes {list(classes)} name one twice")
    plain = values.tolist() if isinstance(values, np.ndarray) else list(values)  # type: ignore[arg-type]
    return np.array([code.get(value, len(classes)) for value in plain], dtype=np.int64)


def _check(
    truth: NDArray[np.int64],
    answers: NDArray[np.int64],
    labels: Sequence[Any] | ArrayLike,
    classes: Sequence[Any],
) -> None:
    if len(truth) == 0:
        raise CarrickError("there are no rows to score")
    if len(truth) != len(answers):
        raise CarrickError(f"{len(truth)} labels stand against {len(answers)} answers")
    strange = np.flatnonzero(truth == len(classes))
    if len(strange):
        value = np.asarray(labels, dtype=object)[strange[0]]
        raise CarrickError(f"row {strange[0]} has the label {value!r}, which is none of {list(classes)}")


class Macro(NamedTuple):
    """Unweighted means over classes."""

    precision: float
    recall: float
    f1: float


def macro(labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> Macro:
    """Compute the macro scores alone, fast enough for thousands of bootstrap draws.

    Parameters
    ----------
    labels, predicted
        Classes 0 … classes - 1 of each row, shape (rows,); answers outside that range count as wrong.
    classes
        How many classes there are.

    Examples
    --------
    >>> macro(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1]), 2)
    Macro(precision=0.8333333333333333, recall=0.75, f1=0.7333333333333334)
    """
    hits = np.bincount(labels[labels == predicted], minlength=classes).astype(np.float64)
    known = predicted[(predicted >= 0) & (predicted < classes)]
    answered, right = np.bincount(known, minlength=classes), np.bincount(labels, minlength=classes)

    def mean(doubled: NDArray[np.float64], total: NDArray[np.integer[Any]]) -> float:
        return float(np.divide(doubled, total, out=np.zeros(classes), where=total > 0).mean())

    # F1 = 2 TP / (2 TP + FP + FN) = 2 TP / (rows of the class + answers of the class)
    return Macro(mean(hits, answered), mean(hits, right), mean(2 * hits, answered + right))


def macro_f1(labels: NDArray[np.integer[Any]], predicted: NDArray[np.integer[Any]], classes: int) -> float:
    """Compute the macro F1 alone; see `macro`."""
    return macro(labels, predicted, classes).f1


def overall(per_language: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Average every score over languages, each language counting the same whatever its number of rows.

    This is the "overall" of language-specific model merging (its Tables 1 and 2). Only plain numbers that
    every language has are averaged, and `rows` is left out.

    Raises
    ------
    CarrickError
        No language.

    Examples
    --------
    >>> overall({"en": {"macro_f1": 0.5, "rows": 10}, "de": {"macro_f1": 0.25, "rows": 990}})
    {'macro_f1': 0.375}
    """
    if not per_language:
        raise CarrickError("there is no language to average over")
    tables = list(per_language.values())
    names = [
        name
        for name, value in tables[0].items()
        if name != "rows"
        and all(isinstance(each.get(name), int | float) for each in [{name: value}, *tables])
    ]
    return {name: float(np.mean([each[name] for each in tables])) for name in names}
