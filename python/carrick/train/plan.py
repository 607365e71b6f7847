"""What a recipe would train, counted without training: the dry run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from carrick.train.base import check_targets, empty_model, load_tokenizer
from carrick.train.record import cost

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
    if job.recipe.method == "simultaneous":
        from carrick.train.simultaneous import in_steps  # noqa: PLC0415  (loads torch and transformers)

        job = in_steps(job)
    recipe, training = job.recipe, job.recipe.training
    tokens = count_tokens(job, job.rows)
    batch = training.batch_size * training.accumulate
    per_epoch = math.ceil(len(job.rows) / batch)
    steps = training.steps or math.ceil(per_epoch * (training.epochs or 0))
    epochs = steps / per_epoch
    points = (
        1 if recipe.search is None else len(recipe.search.learning_rate) * len(recipe.search.weight_decay)
    )
    seen = round(tokens * epochs) * points
    price = recipe.cost
    seconds = None if price is None or price.tokens_per_second is None else seen / price.tokens_per_second
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
        "epochs": epochs,
        "samples_seen": steps * batch * points,
        "tokens_seen": seen,
        "trainable_parameters": _trainable(job),
        "device": job.device,
        "device_seconds": seconds,
        "cost": None if seconds is None or price is None else cost(seconds, price.price),
        "currency": None if price is None else price.currency,
    }


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
