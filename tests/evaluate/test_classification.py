"""Classification scores against counts made by hand, without scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest

from carrick.errors import CarrickError
from carrick.evaluate.metrics.classification import macro_f1, overall, scores

pytest.importorskip("sklearn")


def by_hand(labels, predicted, classes):
    """Precision, recall and F1 from the definitions, row by row."""
    table = {}
    for name in classes:
        tp = sum(a == name and b == name for a, b in zip(labels, predicted, strict=True))
        fp = sum(a != name and b == name for a, b in zip(labels, predicted, strict=True))
        fn = sum(a == name and b != name for a, b in zip(labels, predicted, strict=True))
        precision = tp / (tp + fp) if tp + fp else 0.0
        recall = tp / (tp + fn) if tp + fn else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        table[name] = (precision, recall, f1, tp + fn)
    return table


@pytest.mark.parametrize("seed", range(5))
def test_against_counts(seed):
    random = np.random.default_rng(seed)
    classes = ["negative", "neutral", "positive", "never"]
    labels = random.choice(classes[:3], 200).tolist()
    predicted = random.choice([*classes[:3], "what?"], 200).tolist()
    found = scores(labels, predicted, classes)
    table = by_hand(labels, predicted, classes)
    for name in classes:
        assert tuple(found["per_class"][name].values()) == pytest.approx(table[name])
    means = np.array(list(table.values())).mean(axis=0)
    assert (found["macro_precision"], found["macro_recall"], found["macro_f1"]) == pytest.approx(means[:3])
    right = sum(a == b for a, b in zip(labels, predicted, strict=True)) / 200
    assert found["accuracy"] == found["micro_f1"] == found["micro_recall"] == right
    assert found["outside"] == predicted.count("what?") / 200
    confusion = np.array(found["confusion"])
    assert confusion.shape == (4, 5)
    assert confusion.sum() == 200
    assert confusion[:, 4].sum() == predicted.count("what?")
    assert confusion[2, 0] == sum(
        a == "positive" and b == "negative" for a, b in zip(labels, predicted, strict=True)
    )


@pytest.mark.parametrize("answers", [3, 5])
def test_fast_macro_f1_is_the_same(answers):
    random = np.random.default_rng(answers)
    for rows in (1, 7, 500):
        labels, predicted = random.integers(0, 3, rows), random.integers(-1, answers, rows)
        assert macro_f1(labels, predicted, 3) == pytest.approx(
            scores(labels, predicted, [0, 1, 2])["macro_f1"], abs=1e-12
        )


def test_arrays_and_lists_are_the_same():
    labels, predicted = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])
    assert scores(labels, predicted, [0, 1, 2]) == scores(labels.tolist(), predicted.tolist(), [0, 1, 2])


def test_overall_weighs_languages_and_not_rows():
    assert overall({"en": {"f1": 1.0, "rows": 1}, "de": {"f1": 0.0, "rows": 99, "accuracy": 1.0}}) == {
        "f1": 0.5
    }
    with pytest.raises(CarrickError, match="no language"):
        overall({})


@pytest.mark.parametrize(
    ("labels", "predicted", "classes", "message"),
    [
        ([], [], [0], "no rows"),
        ([0], [0, 0], [0], "1 labels stand against 2 answers"),
        ([0, 7], [0, 0], [0, 1], r"row 1 has the label 7, which is none of \[0, 1\]"),
        ([0], [0], [0, 0], "name one twice"),
    ],
)
def test_refused(labels, predicted, classes, message):
    with pytest.raises(CarrickError, match=message):
        scores(labels, predicted, classes)
