"""The method `simultaneous`: both sides of a partition trained in turn, each on its own source (XLT §4.5)."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.train.adapter import adapted
from carrick.train.base import check_targets, empty_model, load_model
from carrick.train.fine_tune import save_result, with_head
from carrick.train.fitting import fit
from carrick.train.job import Job, Outcome
from carrick.train.partition import Sides, described, sides_of
from carrick.train.switching import ORDER, AlternatingSampler, SwitchPartitions, check_steps, steps_of_epochs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from carrick.train.partition import Side
    from carrick.train.recipe import Partition


def check(job: Job) -> None:
    """Refuse what cannot be trained so, before anything is loaded.

    Raises
    ------
    ConfigError, PlanError
        A side without parameters or rows, steps that are no whole number of turns, or several devices.
    """
    recipe, partition = job.recipe, _partition(job)
    if partition.side is not None:
        raise ConfigError("`partition.side`: simultaneous training trains both sides; remove it")
    _steps(job)
    _check_evaluations(job)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 or (job.device == "cuda" and _gpus() > 1):
        raise ConfigError(
            "simultaneous training freezes parameters between steps, which copies of the model on several devices do "
            "not follow; run it on one (CUDA_VISIBLE_DEVICES=0)"
        )
    model = empty_model(job.base, recipe.task)
    sides = Sides({name: p.numel() for name, p in model.named_parameters()}, partition)
    if recipe.adapter is None:
        trained = [name for name, _ in model.named_parameters()]
    else:
        trained = [f"{path}.weight" for path in check_targets(model, recipe.adapter, job.base)]
    having = {sides.of(name) for name in trained}
    for side in ORDER:
        if side not in having:
            raise ConfigError(f"{described(partition)}: nothing that trains is on the side of the {side}")


def run(job: Job) -> Outcome:
    """Train both sides and write the result to the job's folder."""
    recipe, partition = job.recipe, _partition(job)
    model: Any = load_model(job.base, recipe.task, recipe.training, trains_all=recipe.adapter is None)
    if recipe.adapter is not None:
        model = adapted(model, recipe.adapter, recipe.task, recipe.training)
    live = with_head(model, job)
    parameters = _parameters(model, partition)
    steps, turn = _steps(job), recipe.steps_per_switch
    batch = recipe.training.batch_size * recipe.training.accumulate
    tokens: dict[str, int] = dict.fromkeys(ORDER, 0)

    def sampler(prepared: Any) -> AlternatingSampler:
        places: dict[Side, list[int]] = {side: [] for side in ORDER}
        for place, (row, ids) in enumerate(zip(prepared["row"], prepared["input_ids"], strict=True)):
            side: Side = "task" if row in job.streams["task"] else "language"
            places[side].append(place)
            tokens[side] += len(ids)
        return AlternatingSampler(
            places, rows_per_step=batch, steps=steps, steps_per_switch=turn, seed=recipe.training.seed
        )

    fitted = fit(
        live,
        in_steps(job),
        callbacks=[SwitchPartitions(parameters, turn)],
        sampler=sampler,
        save=lambda each, folder: save_result(each, folder, job),
    )
    save_result(live, job.folder, job)
    details = {
        "partition": partition.model_dump(exclude_none=True),
        "steps_per_switch": turn,
        "steps": dict.fromkeys(ORDER, steps // 2),
        "effective_batch": batch,
        "parameters": {side: sum(each.numel() for each in parameters[side]) for side in ORDER},
    }
    return Outcome(replace(fitted, **passed(job, tokens, fitted.steps)), details)


def in_steps(job: Job) -> Job:
    """Return the job with its length in optimizer steps: a sampler that alternates knows no epochs.

    Evaluations once an epoch become evaluations after every pass over the larger source, where both sides have
    trained equally long: the weights that are kept are those of an evaluation.
    """
    training, steps = job.recipe.training, _steps(job)
    passes = max(1, round(training.epochs)) if training.epochs is not None else 1
    turns = 2 * job.recipe.steps_per_switch
    every = -(-steps // (passes * turns)) * turns
    changed: dict[str, Any] = {"steps": steps, "epochs": None}
    changed |= {key: every for key in ("evaluate_every", "save_every") if getattr(training, key) == "epoch"}
    recipe = job.recipe.model_copy(update={"training": training.model_copy(update=changed)})
    return replace(job, recipe=recipe)


def _steps(job: Job) -> int:
    training, turn = job.recipe.training, job.recipe.steps_per_switch
    if training.steps is not None:
        check_steps(training.steps, turn)
        return training.steps
    rows = [len(job.streams[side]) for side in ORDER]
    return steps_of_epochs(rows, training.batch_size * training.accumulate, training.epochs or 1.0, turn)


def _check_evaluations(job: Job) -> None:
    training, turns = job.recipe.training, 2 * job.recipe.steps_per_switch
    every = training.evaluate_every
    if job.validation is not None and training.keep == "best" and isinstance(every, int) and every % turns:
        raise ConfigError(
            f"`evaluate_every` is {every}, where one side has trained longer than the other, and `keep: best` keeps "
            f"weights of an evaluation; write a multiple of {turns}, or `keep: last`"
        )


def passed(job: Job, tokens: Mapping[str, int], steps: int) -> dict[str, Any]:
    """Count what goes through: half of the rows are of each source, an epoch is a pass over the larger one.

    Parameters
    ----------
    job
        The request.
    tokens
        Of each source's rows, once.
    steps
        Updates.
    """
    training = job.recipe.training
    seen = steps * training.batch_size * training.accumulate
    rows = {side: len(job.streams[side]) for side in ORDER}
    mean = sum(tokens[side] / rows[side] for side in ORDER) / 2
    return {"samples_seen": seen, "tokens_seen": round(mean * seen), "epochs": seen / 2 / max(rows.values())}


def _parameters(model: nn.Module, partition: Partition) -> dict[Side, list[nn.Parameter]]:
    sides = sides_of(model, partition)
    return {
        side: [each for name, each in model.named_parameters() if each.requires_grad and sides[name] == side]
        for side in ORDER
    }


def _partition(job: Job) -> Partition:
    if job.recipe.partition is None:
        raise ConfigError("the method `simultaneous` needs `partition`")
    return job.recipe.partition


def _gpus() -> int:
    import torch  # noqa: PLC0415

    return torch.cuda.device_count()
