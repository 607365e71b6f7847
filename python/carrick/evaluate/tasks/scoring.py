"""Scores of single answers, and how they are put together, as the YAML files name them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.evaluate.metrics import classification
from carrick.evaluate.metrics.answers import label
from carrick.evaluate.metrics.hallucination import aggregated_hallucination_rate, listed_examples
from carrick.evaluate.metrics.rouge import rouge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.evaluate.tasks.files import Row

Pair = tuple[int, int]


def likeliest(doc: Row, results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """Score a choice by log-likelihoods: the likeliest one is the answer (the first of equals)."""
    return {"accuracy": float(_likeliest(results) == doc["gold"])}


def likeliest_class(doc: Row, results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Score a choice of classes, which are more than letters: the pair (right, answered) as well."""
    answer = _likeliest(results)
    return {"accuracy": float(answer == doc["gold"]), "macro_f1": (int(doc["gold"]), answer)}


def _likeliest(results: Sequence[tuple[float, bool]]) -> int:
    """Return the place of the likeliest choice; -1, which is wrong, where one has no likelihood (NaN)."""
    values = np.array([loglikelihood for loglikelihood, _ in results])
    return -1 if np.isnan(values).any() else int(values.argmax())


def generated_label(doc: Row, results: list[str]) -> dict[str, Any]:
    """Score a label that was generated; one outside the label set is wrong, and counted as such."""
    gold, answer = int(doc["gold"]), label(results[0], doc["labels"])
    return {
        "accuracy": float(answer == gold),
        "macro_f1": (gold, -1 if answer is None else answer),
        "outside": float(answer is None),
    }


def macro_f1(pairs: Sequence[Pair]) -> float:
    """Aggregate (right, answered) pairs by the unweighted mean of the F1 of the classes up to the last one seen."""
    gold, answers = np.array(pairs, dtype=np.int64).T
    return classification.macro_f1(gold, answers, int(max(gold.max(), answers.max())) + 1)


def summary(doc: Row, results: list[str]) -> dict[str, float]:
    """Score a summary by ROUGE, with the tokenizer for all languages and with the English default."""
    text, reference = results[0].strip(), doc["summary"]
    everywhere = rouge([text], [reference]).means()
    english = rouge([text], [reference], tokenizer="english").means()
    return {**everywhere, **{f"{name}_english": value for name, value in english.items()}}


def examples(doc: Row, results: list[str]) -> dict[str, Pair]:
    """Count the examples of an answer, and those that the input does not contain."""
    found = aggregated_hallucination_rate([listed_examples(results[0])], [doc["input"]])
    ((total, exact, normalised),) = found.per_input
    return {"hallucination_exact": (total, exact), "hallucination": (total, normalised)}


def ratio(pairs: Sequence[Pair]) -> float:
    """Aggregate (examples, of which missing) pairs over all inputs; NaN without a single example."""
    total = sum(count for count, _ in pairs)
    return sum(missing for _, missing in pairs) / total if total else float("nan")
