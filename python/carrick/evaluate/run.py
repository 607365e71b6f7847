"""`carrick.evaluate.evaluate`: a model, tasks and languages in; scores with standard errors out."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.find import find_path
from carrick.errors import ConfigError
from carrick.evaluate import classifier, language_model
from carrick.evaluate.aggregate import mean
from carrick.evaluate.device import choose_device, element_type
from carrick.evaluate.metrics.bertscore import bertscore as bert_scores
from carrick.evaluate.metrics.bertscore import check_encoder
from carrick.evaluate.output import UNDRAWN, check_out, has_charts
from carrick.evaluate.report import EvaluationReport, TaskResult
from carrick.evaluate.request import Request
from carrick.evaluate.settings import Settings
from carrick.evaluate.tasks.catalogue import SUMMARIES, chosen
from carrick.extras import require
from carrick.home import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carrick.evaluate.request import Progress, Rows
    from carrick.evaluate.tasks.family import Family

_PACKAGES = ("torch", "transformers", "peft", "lm_eval", "datasets", "carrick")


def evaluate(
    model: str | Path | Any,
    adapters: Sequence[str | Path] = (),
    *,
    tasks: Sequence[str],
    data: str | Path | None = None,
    languages: Sequence[str] | None = None,
    limit: int | None = None,
    shots: int | None = None,
    head: str | Path | None = None,
    bertscore: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 8,
    max_length: int | None = None,
    max_new_tokens: int | None = None,
    chat: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    force: bool = False,
    download: bool = False,
    progress: Progress | None = None,
) -> EvaluationReport:
    """Score a model on tasks in languages.

    Everything that was asked for is checked, and all rows are read, before the model is loaded.

    Parameters
    ----------
    model
        A checkpoint's folder or Hub id (``base+adapter:0.5`` too), or an `lm_eval.api.model.LM`.
    adapters
        LoRA adapters of it, all active at once, each with ``:weight`` where that is not 1.
    tasks
        Names of tasks, see ``carrick evaluate --list``.
    data
        Folder with a folder for each task; None fetches each task's data set from the Hub.
    languages
        Codes such as ``de``; None takes all that a task has.
    limit
        Rows of each task and language, from the first; None takes all.
    shots
        Worked examples before each row; None takes the number in the task's YAML file.
    head
        Folder of a classification head: `model` is an encoder then, and the task one with classes, without shots,
        chat templates or generated answers.
    bertscore
        Folder of an encoder that summaries are compared by as well.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
    precision
        ``auto`` (float32 on a CPU and with a head, as stored on a GPU), ``float32``, ``bfloat16``, or ``float16``,
        which a head is not computed in.
    batch_size
        Rows computed together.
    max_length
        Tokens that the model sees at most; None takes the model's own maximum, with a head the length that it or
        an adapter was trained with where that is recorded.
    max_new_tokens
        Tokens of an answer at most; None takes the number in the task's YAML file.
    chat
        Ask in the model's chat template.
    seed
        Of the bootstrap, and of whatever is random.
    out
        Folder for ``results.json``, the answers, and a chart of each task where matplotlib is there; made by one
        rename.
    force
        Replace results that `out` holds, with all their files.
    download
        Fetch a model or an adapter from the Hub that is not in the local cache.
    progress
        Called before each task and language with how many are done, how many there are, and its name.

    Returns
    -------
    EvaluationReport

    Raises
    ------
    ConfigError
        A task, language or device that is not there, a missing file or column, an adapter of another base,
        more shots than there are, what makes no sense with a head, or results that would be replaced.
    CarrickError
        A package of the extra ``evaluate`` is missing.
    """
    require(
        "`carrick evaluate`", "evaluate", "torch", "transformers", "datasets", "lm_eval", "sklearn", "scipy"
    )
    begun = time.monotonic()
    settings = Settings(limit, shots, precision, batch_size, max_length, max_new_tokens, chat, seed)
    folder = None if out is None else check_out(out, force=force)
    place = choose_device(device)
    element_type(precision, place)
    source = None if data is None else expanded(data)
    asked = chosen(tasks, source, languages)
    if head is not None:
        classifier.check_options(settings, [family for family, _ in asked])
    rows = [(family, language, family.rows(source, language)) for family, language in asked]
    if bertscore is not None:
        _check_bertscore(bertscore, asked, download=download)
    watch = progress or _unwatched
    request = Request(model, tuple(adapters), rows, settings, place, watch, download)
    name, results, notes = language_model.run(request) if head is None else classifier.run(request, head)
    if bertscore is not None:
        results = [_with_bertscore(result, rows, bertscore, str(place)) for result in results]
    if folder is not None and not has_charts():
        notes = [*notes, UNDRAWN]
    report = EvaluationReport(
        model=name,
        device=str(place),
        results=tuple(results),
        seconds=time.monotonic() - begun,
        settings={
            "tasks": list(tasks),
            "languages": None if languages is None else list(languages),
            "data": None if data is None else str(data),
            "head": None if head is None else str(head),
            "bertscore": None if bertscore is None else str(bertscore),
            **asdict(settings),
        },
        versions={package: version(package) for package in _PACKAGES},
        notes=tuple(dict.fromkeys(notes)),
    )
    if folder is not None:
        report.save(folder, force=force)
    return report


def _check_bertscore(model: str | Path, asked: Sequence[tuple[Family, str]], *, download: bool) -> None:
    require("`--bertscore`", "evaluate", "bert_score")
    if not any(family.name == SUMMARIES for family, _ in asked):
        raise ConfigError(
            f"--bertscore compares summaries; the task {SUMMARIES} is not among those asked for"
        )
    check_encoder(find_path(str(model), download=download)[0])


def _with_bertscore(result: TaskResult, rows: Rows, model: str | Path, device: str) -> TaskResult:
    if result.task != SUMMARIES:
        return result
    references = next(
        found["test"]
        for family, language, found in rows
        if (family.name, language) == (result.task, result.language)
    )
    found = bert_scores(
        [sample["answer"] for sample in result.samples],
        [references[sample["row"]]["summary"] for sample in result.samples],
        find_path(str(model))[0],
        device=device,
    )
    samples = [
        {**sample, "scores": {**sample["scores"], "bertscore": float(f1)}}
        for sample, f1 in zip(result.samples, found.f1, strict=True)
    ]
    return replace(result, scores={**result.scores, "bertscore": mean(found.f1)}, samples=tuple(samples))


def _unwatched(done: int, total: int, name: str) -> None:
    """Take the place of a progress that nobody asked for."""
