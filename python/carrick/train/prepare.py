"""From a recipe to a job: everything is found, read and checked before any training starts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from carrick.classifier.head import Head, check_width, load_head
from carrick.errors import ConfigError
from carrick.train.base import find_base
from carrick.train.job import Job
from carrick.train.rows import Rows, read_rows, refuse_mixture

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.train.recipe import TrainRecipe


def prepare(recipe: TrainRecipe, out: Path, device: str, *, progress: bool) -> Job:
    """Find the base, read the rows, check labels and device.

    Raises
    ------
    ConfigError, FormatError
        Anything that training could not be carried out with.
    """
    place = choose_device(device)
    base = find_base(recipe.base)
    head = None if recipe.head is None else load_head(recipe.head)
    rows, validation, streams = _rows(recipe)
    if head is not None:
        check_width(head, base.path)
        for part in (rows, validation):
            _check_labels(part, head)
    return Job(recipe, base, rows, validation, out, place, head, streams, progress)


def choose_device(device: str) -> str:
    """Return `cpu` or `cuda`.

    Raises
    ------
    ConfigError
        Another word, a GPU where torch sees none, or several GPUs for one process.
    """
    import torch  # noqa: PLC0415

    if device not in {"auto", "cpu", "cuda"}:
        raise ConfigError(f"device is `{device}`; it is auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is `cuda`, but torch sees no GPU here; use --device cpu")
    chosen = "cuda" if device == "auto" and torch.cuda.is_available() else device
    if chosen == "cuda" and torch.cuda.device_count() > 1 and "WORLD_SIZE" not in os.environ:
        raise ConfigError(
            f"torch sees {torch.cuda.device_count()} GPUs and one process: `accelerate launch -m carrick train …` uses "
            "all, CUDA_VISIBLE_DEVICES=0 one of them"
        )
    return "cpu" if chosen == "auto" else chosen


def _rows(recipe: TrainRecipe) -> tuple[Rows, Rows | None, dict[str, range]]:
    if recipe.sources is None:
        if recipe.data is None:
            raise ConfigError("`data` is missing")
        rows, validation = read_rows(recipe.data, recipe.task)
        return rows, validation, {}
    task, task_validation = read_rows(recipe.sources.task, recipe.task)
    language, language_validation = read_rows(recipe.sources.language, recipe.task)
    streams = {"task": range(len(task)), "language": range(len(task), len(task) + len(language))}
    kept = [part for part in (task_validation, language_validation) if part is not None]
    rows, validation = Rows.join([task, language]), Rows.join(kept) if kept else None
    refuse_mixture(rows, validation)
    return rows, validation, streams


def _check_labels(rows: Rows | None, head: Head) -> None:
    for row in rows.examples if rows is not None else ():
        if row.label is not None:
            try:
                head.index(row.label)
            except ConfigError as error:
                name = rows.sources[row.source]["source"] if rows is not None else ""
                raise ConfigError(f"{name}: {error.message}") from None
