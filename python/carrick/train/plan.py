"""What a recipe would train, counted without training: the dry run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.train.base import check_targets, empty_model, load_tokenizer
from carrick.train.processes import Processes
from carrick.train.record import priced

if TYPE_CHECKING:
    from carrick.train.job import Job
    from carrick.train.rows import Rows

FORMAT, VERSION = "carrick-training-plan", 1


def plan(job: Job) -> dict[str, Any]:
    """Count rows, tokens, steps and parameters of a job, and with a known speed its time and cost.

    Returns
    -------
    dict
        `rows`, `languages`, `steps`, `tokens_seen`, `trainable_parameters` (None where the method decides) and
        others; of a search the sums over all its points.
    """
    recipe = job.recipe
    steps = count_steps(job)
    streams = job.streams or {"": range(len(job.rows))}
    counts = {side: count_tokens(job, job.rows.select(places)) for side, places in streams.items()}
    tokens = sum(counts.values())
    if recipe.method == "simultaneous":
        from carrick.train.simultaneous import passed  # noqa: PLC0415  (loads torch and transformers)

        seen = passed(job, counts, steps)
    else:
        epochs = steps / _steps_of_epoch(job)
        seen = {"epochs": epochs, "samples_seen": steps * _batch(job), "tokens_seen": round(tokens * epochs)}
    points = (
        1 if recipe.search is None else len(recipe.search.learning_rate) * len(recipe.search.weight_decay)
    )
    in_all = seen["tokens_seen"] * points
    price = recipe.cost
    seconds = None if price is None or price.tokens_per_second is None else in_all / price.tokens_per_second
    return {
        "format": FORMAT,
        "version": VERSION,
        "method": recipe.method,
        "base": {"name": job.base.name, "architecture": job.base.architecture},
        "data": {
            "train": {**job.rows.account(), "tokens": tokens},
            "validation": None if job.validation is None else job.validation.account(),
        },
        "points": points,
        "steps": steps,
        "epochs": seen["epochs"],
        "samples_seen": seen["samples_seen"] * points,
        "tokens_seen": in_all,
        "trainable_parameters": _trainable(job),
        "device": job.device,
        "device_seconds": seconds,
        **priced(recipe, seconds),
    }


def check_snapshots(job: Job) -> None:
    """Refuse snapshots that would never be written.

    Raises
    ------
    ConfigError
        The training ends before one of them.
    """
    last, steps = max(job.recipe.training.snapshots, default=0), count_steps(job)
    if last > steps:
        raise ConfigError(
            f"training.snapshots names step {last}, but the training ends at step {steps}; name earlier ones"
        )


def count_steps(job: Job) -> int:
    """Count the updates of the weights."""
    if job.recipe.method == "simultaneous":
        from carrick.train.simultaneous import in_steps  # noqa: PLC0415  (loads torch and transformers)

        job = in_steps(job)
    training = job.recipe.training
    return training.steps or math.ceil(_steps_of_epoch(job) * (training.epochs or 0))


def _steps_of_epoch(job: Job) -> int:
    return math.ceil(len(job.rows) / _batch(job))


def _batch(job: Job) -> int:
    """Rows of an update, over all devices."""
    return job.recipe.training.batch_size * job.recipe.training.accumulate * Processes(job.device).count


def count_tokens(job: Job, rows: Rows) -> int:
    """Count the tokens of one epoch, cut at `max_length`; a chat template's own are left out."""
    tokenizer = load_tokenizer(job.base, job.recipe.task)
    causal = job.recipe.task == "causal"
    texts = [row.text + (row.answer or "") for row in rows.examples]
    longest = job.recipe.training.max_length
    lengths = [len(ids) + causal for ids in tokenizer(texts, truncation=False)["input_ids"]]
    return sum(min(length, longest) for length in lengths)


def _trainable(job: Job) -> int | None:
    """Parameters of a plain fine-tuning; other methods and partitions decide later."""
    recipe = job.recipe
    if recipe.method != "fine_tune" or recipe.partition is not None:
        return None
    model = empty_model(job.base, recipe.task)
    if recipe.adapter is None:
        return sum(parameter.numel() for parameter in model.parameters())
    weights = [
        model.get_submodule(name).get_parameter("weight")
        for name in check_targets(model, recipe.adapter, job.base)
    ]
    return sum(recipe.adapter.rank * sum(weight.shape) for weight in weights)
