"""From the recipe's `training` to the trainer's arguments."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.train.job import Job

_MOST_LOGGED = 2000


def training_arguments(job: Job, folder: Path, *, evaluates: bool, rows: int) -> dict[str, Any]:
    """Return what TrainingArguments and SFTConfig are told alike.

    Parameters
    ----------
    job
        The request.
    folder
        Of the checkpoints.
    evaluates
        Whether there are validation rows.
    rows
        How many rows an epoch has.
    """
    training = job.recipe.training
    steps = training.steps or math.ceil(
        (training.epochs or 0) * rows / (training.batch_size * training.accumulate)
    )
    evaluation = training.evaluate_every
    saving = evaluation if training.save_every is None else training.save_every
    best = evaluates and training.keep == "best"
    if best:
        saving = evaluation  # the best checkpoint is one of those that were evaluated
    warmup = training.warmup
    return {
        "output_dir": str(folder),
        "num_train_epochs": training.epochs or 1.0,
        "max_steps": training.steps or -1,
        "per_device_train_batch_size": training.batch_size,
        "per_device_eval_batch_size": max(training.batch_size, 32)
        if job.device == "cpu"
        else training.batch_size,
        "gradient_accumulation_steps": training.accumulate,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "lr_scheduler_type": training.schedule,
        "warmup_steps": warmup if warmup < 1 else int(warmup),
        "max_grad_norm": training.clip_norm,
        "bf16": training.precision == "bfloat16",
        "gradient_checkpointing": training.gradient_checkpointing,
        "use_cpu": job.device == "cpu",
        "dataloader_pin_memory": job.device != "cpu",
        "seed": training.seed,
        "logging_strategy": "steps",
        "logging_steps": max(1, math.ceil(steps / _MOST_LOGGED)),
        "logging_nan_inf_filter": False,
        "eval_strategy": "no" if not evaluates else "epoch" if evaluation == "epoch" else "steps",
        "eval_steps": evaluation if isinstance(evaluation, int) else None,
        "save_strategy": {"epoch": "epoch", "never": "no"}.get(str(saving), "steps"),
        "save_steps": saving if isinstance(saving, int) else 500,
        "save_total_limit": 1,
        "load_best_model_at_end": best,
        "metric_for_best_model": "eval_loss" if best else None,
        "greater_is_better": False if best else None,
        "prediction_loss_only": True,
        "disable_tqdm": True,
        "report_to": "none",
        "remove_unused_columns": True,
        "log_level": "error",
    }
