"""Classification by an encoder with a frozen head: the sentiment task without a language model."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.classifier.encoder import tokens_kept
from carrick.classifier.head import check_width
from carrick.errors import ConfigError
from carrick.evaluate.aggregate import classified, mean
from carrick.evaluate.model import find_subject
from carrick.evaluate.not_numbers import not_numbers
from carrick.evaluate.report import TaskResult
from carrick.evaluate.tasks.sentiment import FAMILY, GENERATION
from carrick.quiet import quiet_libraries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from carrick.classifier.head import Head
    from carrick.evaluate.model import Subject
    from carrick.evaluate.request import Found, Request
    from carrick.evaluate.settings import Settings
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


def check_options(settings: Settings, families: Sequence[Family]) -> None:
    """Refuse what means nothing, or cannot be done, where an encoder and its head classify texts.

    Raises
    ------
    ConfigError
        float16, options of prompts and answers, or the task whose labels are generated.

    Examples
    --------
    >>> from carrick.evaluate.settings import Settings
    >>> check_options(Settings(precision="float16"), [])
    Traceback (most recent call last):
    carrick.errors.ConfigError: with --head a model runs in float32 or bfloat16, not in float16; choose one of them
    """
    if settings.precision == "float16":
        raise ConfigError(
            "with --head a model runs in float32 or bfloat16, not in float16; choose one of them"
        )
    given = {
        "--shots": settings.shots is not None,
        "--chat": settings.chat,
        "--max-new-tokens": settings.max_new_tokens is not None,
    }
    if any(given.values()):
        names = ", ".join(name for name, there in given.items() if there)
        raise ConfigError(
            f"with --head a text is classified, without a prompt or a generated answer; leave out {names}"
        )
    if GENERATION in families:
        raise ConfigError(
            f"the task {GENERATION.name} is about labels that are generated, and --head generates none; ask for "
            f"{FAMILY.name}"
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
    tokenizer = _tokenizer(subject.folder)
    wanted = request.settings.max_length or _trained_length(heads[0], subject)
    length = tokens_kept(subject.folder, wanted, tokenizer)
    results, notes = [], []
    for number, (head, (family, language, rows)) in enumerate(zip(heads, request.rows, strict=True)):
        request.watch(number, len(request.rows), f"{family.name} {language}")
        asked = rows["test"][: request.settings.limit]
        right = np.array([row["gold"] for row in asked])
        texts = [row["text"] for row in asked]
        answered = _answers(subject, head, family, texts, length, request)
        results.append(_result(family, language, right, answered, request.settings.seed))
        notes += _cut(f"{family.name}_{language}", texts, tokenizer, length)
        notes += not_numbers(f"{family.name}_{language}", int((answered < 0).sum()), len(answered))
    request.watch(len(request.rows), len(request.rows), "")
    return subject.name, results, notes


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415  (an extra)

    with quiet_libraries():
        return AutoTokenizer.from_pretrained(folder)


def _trained_length(head: Head, subject: Subject) -> int | None:
    """Return the longest text that the model or an adapter was trained on, else the head; None where none says."""
    lengths = []
    for folder in (subject.folder, *(path for path, _ in subject.adapters)):
        # Only a hint: what is no record of a classification, whoever wrote it, says nothing.
        with suppress(OSError, ValueError, KeyError, TypeError):
            recipe = json.loads((folder / "training.json").read_text("utf-8"))["recipe"]
            if recipe["task"] == "classification":
                lengths.append(int(recipe["training"]["max_length"]))
    return max(lengths, default=head.max_length)


def _cut(name: str, texts: list[str], tokenizer: Any, length: int) -> list[str]:
    """Count the texts that have more tokens than the encoder is given."""
    with quiet_libraries():  # it warns of texts beyond the model's maximum
        cut = sum(len(ids) > length for ids in tokenizer(texts)["input_ids"])
    if not cut:
        return []
    return [
        f"{name}: of {cut} of {len(texts)} rows the text is longer than the {length} tokens that the classifier is "
        "given; its end was cut off"
    ]


def _answers(  # noqa: PLR0917
    subject: Subject, head: Head, family: Family, texts: list[str], length: int, request: Request
) -> NDArray[np.int64]:
    from carrick.classifier.predict import predict  # noqa: PLC0415

    logits = predict(
        str(subject.folder),
        head,
        texts,
        adapter=list(subject.adapters) or None,
        max_length=length,
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
