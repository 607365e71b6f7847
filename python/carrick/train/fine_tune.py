"""The method `fine_tune`: all parameters, those of a partition, or a LoRA adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.train.adapter import adapted
from carrick.train.base import check_targets, empty_model, load_model
from carrick.train.fitting import fit
from carrick.train.job import Job, Outcome
from carrick.train.partition import check_partition, modules_of, train_only

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def check(job: Job) -> None:
    """Refuse what the base cannot be trained by, before anything is loaded.

    Raises
    ------
    ConfigError
        A target or layer that the base has not, or a partition that holds none of its parameters.
    """
    model = empty_model(job.base, job.recipe.task)
    targets = None
    if job.recipe.adapter is not None:
        targets = check_targets(model, job.recipe.adapter, job.base)
    if job.recipe.partition is not None:
        check_partition(model, targets, job.recipe.partition)


def run(job: Job) -> Outcome:
    """Train and write the result to the job's folder."""
    recipe = job.recipe
    whole = recipe.adapter is None
    model: Any = load_model(job.base, recipe.task, recipe.training, trains_all=whole)
    partition = recipe.partition
    if recipe.adapter is not None:
        targets = None
        if partition is not None:
            targets = modules_of(model, check_targets(model, recipe.adapter, job.base), partition)
        model = adapted(model, recipe.adapter, recipe.task, recipe.training, targets=targets)
    details = {} if partition is None else {"partition": train_only(model, partition)}
    live = with_head(model, job)
    fitted = fit(live, job, save=lambda each, folder: save_result(each, folder, job))
    save_result(live, job.folder, job)
    return Outcome(fitted, details)


def with_head(model: nn.Module, job: Job) -> nn.Module:
    """Put a classification's frozen head on the model; a language model stays as it is."""
    if job.head is None:
        return model
    from carrick.classifier.pooling import PooledClassifier  # noqa: PLC0415

    return PooledClassifier(model, job.head)


def save_result(model: nn.Module, folder: Path, job: Job) -> None:
    """Write an adapter, or a whole model with its tokenizer."""
    inner: Any = getattr(model, "encoder", model) if job.head is not None else model
    if job.recipe.adapter is not None:
        inner.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty template
        return
    from carrick.train.whole import save_whole  # noqa: PLC0415

    save_whole(inner, folder, job.base)
