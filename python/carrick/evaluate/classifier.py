"""Classification by an encoder with a frozen head: the sentiment task without a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.classifier.head import check_width
from carrick.errors import ConfigError
from carrick.evaluate.aggregate import classified, mean
from carrick.evaluate.model import find_subject
from carrick.evaluate.not_numbers import not_numbers
from carrick.evaluate.report import TaskResult

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from carrick.classifier.head import Head
    from carrick.evaluate.model import Subject
    from carrick.evaluate.request import Found, Request
    from carrick.evaluate.tasks.family import Family


def check_head(folder: str | Path, family: Family) -> Head:
    """Read a head and check that its classes are those of the task.

    Raises
    ------
    ConfigError
        No head there, or one of other classes.
    """
    from carrick.classifier.head import load_head  # noqa: PLC0415

    head = load_head(folder)
    if not family.classes:
        raise ConfigError(f"the task {family.name} has no classes, so a --head is of no use for it")
    known = set(head.labels)
    if known != set(family.classes) and known != {str(place) for place in range(len(family.classes))}:
        raise ConfigError(
            f"{folder}: the head's classes are {', '.join(head.labels)}; those of {family.name} are "
            f"{', '.join(family.classes)}"
        )
    return head


def check_precision(precision: str) -> None:
    """Refuse a precision that an encoder and its head are not computed in.

    Raises
    ------
    ConfigError
        It is float16.

    Examples
    --------
    >>> check_precision("float16")
    Traceback (most recent call last):
    carrick.errors.ConfigError: with --head a model runs in float32 or bfloat16, not in float16; choose one of them
    """
    if precision == "float16":
        raise ConfigError(
            "with --head a model runs in float32 or bfloat16, not in float16; choose one of them"
        )


def run(request: Request, folder: str | Path) -> Found:
    """Run tasks with classes by an encoder, adapters on it, and a head.

    Raises
    ------
    ConfigError
        No head there, a head of other classes or another width, or adapters of another base.
    """
    heads = [check_head(folder, family) for family, _, _ in request.rows]
    subject = find_subject(request.model, request.adapters, download=request.download)
    for head in heads:
        check_width(head, subject.folder)
    results, notes = [], []
    for number, (head, (family, language, rows)) in enumerate(zip(heads, request.rows, strict=True)):
        request.watch(number, len(request.rows), f"{family.name} {language}")
        asked = rows["test"][: request.settings.limit]
        right = np.array([row["gold"] for row in asked])
        answered = _answers(subject, head, family, [row["text"] for row in asked], request)
        results.append(_result(family, language, right, answered, request.settings.seed))
        notes += not_numbers(f"{family.name}_{language}", int((answered < 0).sum()), len(answered))
    request.watch(len(request.rows), len(request.rows), "")
    return subject.name, results, notes


def _answers(
    subject: Subject, head: Head, family: Family, texts: list[str], request: Request
) -> NDArray[np.int64]:
    from carrick.classifier.predict import predict  # noqa: PLC0415

    logits = predict(
        str(subject.folder),
        head,
        texts,
        adapter=list(subject.adapters) or None,
        max_length=request.settings.max_length or 64,
        batch_size=request.settings.batch_size,
        device=str(request.device),
        precision="bfloat16" if request.settings.precision == "bfloat16" else "float32",
    )
    # The head may have its classes in another order than the task.
    place = [family.classes.index(name) if name in family.classes else int(name) for name in head.labels]
    found: NDArray[np.int64] = np.array(place)[logits.argmax(axis=1)]
    found[np.isnan(logits).any(axis=1)] = -1  # no class
    return found


def _result(
    family: Family, language: str, right: NDArray[np.int64], answered: NDArray[np.int64], seed: int
) -> TaskResult:
    samples: list[dict[str, Any]] = [
        {"row": number, "target": int(gold), "answer": int(said), "scores": {"accuracy": float(gold == said)}}
        for number, (gold, said) in enumerate(zip(right, answered, strict=True))
    ]
    scores = {"accuracy": mean(right == answered), **classified(right, answered, len(family.classes), seed)}
    return TaskResult(family.name, language, family.metric, len(right), 0, scores, tuple(samples))
