"""What training and scoring take, from tokens × parameters and the device's speed and price."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.study.stage import Work

if TYPE_CHECKING:
    from carrick.study.lsm.recipe import Device, LsmRecipe, TaskPlan

RULE = (
    "training 6 · parameters · tokens (LoRA with gradient checkpointing: forward, forward again, backward through "
    "the activations), validation and prompts 2 · parameters · tokens, divided by the device's FLOP/s; generated "
    "tokens by its decoding rate; a minute to load; times the price of an hour"
)


def training(
    recipe: LsmRecipe, parameters: float, task: TaskPlan, *, languages: int, rows: int, data: str
) -> Work:
    """Return what a training takes.

    Parameters
    ----------
    recipe
        With epochs, batch size and device.
    parameters
        Of the base model.
    task
        With tokens a row.
    languages
        How many languages' validation rows are looked at after each epoch.
    rows
        Training rows of an epoch.
    data
        What it reads, for people.
    """
    epochs, length = recipe.training.epochs, task.tokens + task.answer
    seen = round(rows * epochs) * length
    validated = round(languages * task.validation * epochs) * length
    flops = 6 * parameters * seen + 2 * parameters * validated
    return _priced(
        recipe.device,
        Work(
            data=data,
            steps=-(-round(rows * epochs) // recipe.training.batch_size),
            tokens=seen,
            flops=flops,
            seconds=flops / recipe.device.flops + recipe.device.load_seconds,
        ),
    )


def scoring(recipe: LsmRecipe, parameters: float, task: TaskPlan, *, languages: int, data: str) -> Work:
    """Return what scoring the test rows of some languages takes."""
    rows = languages * task.test
    prompts = rows * task.tokens * task.passes
    # Choices are compared by their likelihood; only other answers are generated.
    answers = 0 if task.passes > 1 else rows * task.answer
    flops = 2 * parameters * (prompts + answers)
    seconds = flops / recipe.device.flops + answers / recipe.device.decode_tokens_per_second
    seconds += recipe.device.load_seconds
    return _priced(recipe.device, Work(data=data, tokens=prompts + answers, flops=flops, seconds=seconds))


def merging(recipe: LsmRecipe, parameters: float, adapters: int) -> Work:
    """Return what a merge takes: processor time, which the device waits for."""
    seconds = 4 * adapters * parameters / 1e9  # a guess, generous: nothing of this size was merged here
    return _priced(recipe.device, Work(data=f"{adapters} adapters", seconds=seconds))


def _priced(device: Device, work: Work) -> Work:
    return Work(
        data=work.data,
        steps=work.steps,
        tokens=work.tokens,
        flops=work.flops,
        seconds=work.seconds,
        cost=work.seconds / 3600 * device.price,
        currency=device.currency,
    )
