"""training.json: what was trained from what, and what it took."""

from __future__ import annotations

import math
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from carrick import __version__

if TYPE_CHECKING:
    from carrick.train.fitting import Fitted
    from carrick.train.job import Job, Outcome
    from carrick.train.recipe import TrainRecipe

NAME = "training.json"
FORMAT, VERSION = "carrick-training", 1
_LIBRARIES = ("torch", "transformers", "peft", "trl", "datasets", "accelerate")


def record(job: Job, outcome: Outcome) -> dict[str, Any]:
    """Return the content of training.json.

    Device time is wall time × devices, the cost device hours × the price of one: what the efficiency tables of
    the LSM paper compare. Of parallel trainings the time is the longest wall time, the cost the sum.
    """
    recipe, fitted = job.recipe, outcome.fitted
    device_seconds = fitted.seconds * fitted.device_count
    return {
        "format": FORMAT,
        "version": VERSION,
        "method": recipe.method,
        "recipe": recipe.model_dump(exclude_none=True),
        "base": {
            "name": job.base.name,
            "architecture": job.base.architecture,
            "commit": job.base.commit,
            "config_sha256": job.base.config_sha256,
        },
        "data": {
            "train": {**job.rows.account(), "tokens": fitted.tokens, "dropped": job.dropped},
            "validation": None if job.validation is None else job.validation.account(),
        },
        "seed": recipe.training.seed,
        "trainable_parameters": fitted.trainable,
        "steps": fitted.steps,
        "epochs": fitted.epochs,
        "samples_seen": fitted.samples_seen,
        "tokens_seen": fitted.tokens_seen,
        "losses": [[step, finite(loss)] for step, loss in fitted.losses],
        "final_epoch_loss": finite(fitted.final_epoch_loss),
        "validation": [[step, finite(loss)] for step, loss in fitted.validation],
        "best_step": fitted.best_step,
        "resumed_from": fitted.resumed_from,
        "wall_seconds": fitted.seconds,
        "device": fitted.device,
        "device_count": fitted.device_count,
        "device_seconds": device_seconds,
        **priced(recipe, device_seconds),
        "versions": {"carrick": __version__, **{name: version(name) for name in _LIBRARIES}},
        **({"details": outcome.method} if outcome.method else {}),
    }


def priced(recipe: TrainRecipe, device_seconds: float | None) -> dict[str, Any]:
    """Return `cost` and `currency` of so much device time; None where the recipe has no price."""
    price = recipe.cost
    if price is None:
        return {"cost": None, "currency": None}
    amount = None if device_seconds is None else cost(device_seconds, price.price)
    return {"cost": amount, "currency": price.currency}


def cost(device_seconds: float, price: float) -> float:
    """Device hours × the price of one.

    Examples
    --------
    >>> cost(2 * 3600, 2.5)
    5.0
    """
    return device_seconds / 3600 * price


def finite(value: float) -> float | None:
    """Return the value, or None for what JSON has no word for."""
    return value if math.isfinite(value) else None


def notes_of(fitted: Fitted) -> tuple[str, ...]:
    """Return what a user should know about a training."""
    notes = []
    if not all(math.isfinite(loss) for _, loss in fitted.losses):
        notes.append("the loss was not finite at some steps: the training diverged; lower `learning_rate`")
    return tuple(notes)
