"""Tasks asked of a causal language model: those of the harness, and perplexity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.evaluate import harness
from carrick.evaluate.aggregate import perplexity_of
from carrick.evaluate.model import find_subject, load_causal
from carrick.evaluate.not_numbers import not_numbers
from carrick.evaluate.perplexity import perplexity
from carrick.evaluate.report import Score, TaskResult
from carrick.evaluate.tasks.catalogue import PERPLEXITY
from carrick.positions import learnt_positions

if TYPE_CHECKING:
    from carrick.evaluate.request import Found, Request
    from carrick.evaluate.settings import Settings
    from carrick.evaluate.tasks.files import Row


def run(request: Request) -> Found:
    """Run every task and language, one after the other.

    Raises
    ------
    ConfigError
        More worked examples than there are, a model that is no causal language model, adapters of another base.
    """
    rows, settings = request.rows, request.settings
    prepared = [
        None if family is PERPLEXITY else harness.prepare(family, language, found, settings.shots)
        for family, language, found in rows
    ]
    name, lm = _open(request)
    results: list[TaskResult] = []
    notes: list[str] = []
    for number, (task, (family, language, found)) in enumerate(zip(prepared, rows, strict=True)):
        request.watch(number, len(rows), f"{family.name} {language}")
        if task is None:
            result = _perplexity(language, found["test"][: settings.limit], lm, settings)
            results.append(result)
            unknown = sum(math.isnan(sample["nll"]) for sample in result.samples)
            notes += not_numbers(f"{family.name}_{language}", unknown, result.rows)
        else:
            result, remarks = harness.run(lm, task, settings)
            results.append(result)
            notes += remarks
    request.watch(len(rows), len(rows), "")
    return name, results, notes


def _open(request: Request) -> tuple[str, Any]:
    """Return the model's name and the harness's view of it."""
    if not isinstance(request.model, str | Path):
        if request.adapters:
            raise ConfigError("adapters are put on a model that is named by its folder, not on an object")
        return type(request.model).__name__, request.model
    subject = find_subject(request.model, request.adapters, download=request.download)
    request.watch(0, len(request.rows), f"loading {subject.name}")
    settings = request.settings
    if settings.chat:
        _check_template(subject.folder)
    model, tokenizer = load_causal(subject, request.device, settings.precision)
    room = learnt_positions(model)
    if room is not None and settings.max_length is not None and settings.max_length > room:
        raise ConfigError(
            f"`max_length` is {settings.max_length}; {subject.name} has positions for {room} tokens, choose no more"
        )
    return subject.name, harness.wrap(model, tokenizer, settings.batch_size, settings.max_length)


def _check_template(folder: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415  (an extra)

    if AutoTokenizer.from_pretrained(folder).chat_template is None:
        raise ConfigError(f"{folder}: the tokenizer has no chat template; leave --chat out")


def _perplexity(language: str, rows: list[Row], lm: Any, settings: Settings) -> TaskResult:
    model, tokenizer = getattr(lm, "model", None), getattr(lm, "tokenizer", None)
    if model is None or tokenizer is None:
        raise ConfigError("perplexity takes a model that is named by its folder")
    found = perplexity(
        model,
        (row["text"] for row in rows),
        tokenizer=tokenizer,
        max_length=settings.max_length,
        batch_size=settings.batch_size,
    )
    samples = tuple(
        {"row": row, "nll": nll, "tokens": tokens} for row, (nll, tokens) in enumerate(found.per_text)
    )
    metric = PERPLEXITY.metric
    scores = {
        metric: perplexity_of(found.per_text, settings.seed),
        "nll_per_token": Score(found.nll / found.tokens, None),
    }
    return TaskResult(PERPLEXITY.name, language, metric, len(samples), 0, scores, samples)
