"""The one place that builds a trainer and runs it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError
from carrick.train import causal, checkpoints, classification
from carrick.train.arguments import training_arguments
from carrick.train.base import load_tokenizer
from carrick.train.callbacks import Clock, Snapshots
from carrick.train.checkpoints import TrainableCheckpoints
from carrick.train.progress import LossProgress
from carrick.train.sampling import ByLength, EpochOfSampler, EpochSampler, LengthGrouped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import torch
    from torch import nn

    from carrick.train.job import Job
    from carrick.train.rows import Rows

SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class Fitted:
    """What a training did.

    Attributes
    ----------
    steps
        Updates of the weights.
    epochs
        Passes over the rows.
    samples_seen, tokens_seen
        Rows and tokens that went through, repetitions counted.
    tokens
        Tokens of the training rows, once.
    losses
        Mean training loss of the steps up to each step since the last entry.
    validation
        Validation loss by step.
    best_step
        The step whose weights were kept; None when they are the last ones.
    seconds
        Wall time of all runs that it took, interrupted ones up to their last checkpoint.
    trainable
        Parameters that trained.
    resumed_from
        The step of the checkpoint that this run began with.
    """

    steps: int
    epochs: float
    samples_seen: int
    tokens_seen: int
    tokens: int
    losses: tuple[tuple[int, float], ...]
    validation: tuple[tuple[int, float], ...]
    best_step: int | None
    seconds: float
    trainable: int
    device: str
    device_count: int
    resumed_from: int | None = None

    @property
    def final_epoch_loss(self) -> float:
        """Mean training loss of the last epoch: what the grid of the MLM paper selects by (its §4)."""
        per_epoch = self.steps / max(self.epochs, 1e-9)
        first = self.steps - min(per_epoch, self.steps)
        last, total, weight = 0, 0.0, 0
        for step, loss in self.losses:
            if step > first + 1e-6:
                total += loss * (step - last)
                weight += step - last
            last = step
        return total / max(weight, 1)


def fit(
    model: nn.Module,
    job: Job,
    *,
    save: Callable[[nn.Module, Path], None],
    rows: Rows | None = None,
    evaluation_rows: Rows | None = None,
    callbacks: Sequence[Any] = (),
    sampler: Callable[[Any], Any] | None = None,
    optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
) -> Fitted:
    """Train what requires gradients in the model, resuming from the newest checkpoint in the job's folder.

    Parameters
    ----------
    model
        A causal language model, or for classification a
        :class:`~carrick.classifier.pooling.PooledClassifier`; both also around PEFT models. Every parameter that
        trains at any time requires gradients now.
    job
        The request. Its `training` block gives the arguments, `folder` holds the checkpoints.
    save
        Writes a snapshot of the model to a folder.
    rows, evaluation_rows
        Those of the job, unless they are given.
    callbacks
        Further ones of transformers' kind.
    sampler
        Makes the order of the rows from the prepared data set, whose column `row` holds the place of each of its
        rows in ``rows`` and whose `input_ids` are the tokens. A sampler with a method `start(epoch)` is told
        each epoch. By default batches of like length, seeded.
    optimizer
        Makes the optimizer of the model; AdamW over what requires gradients by default.

    Returns
    -------
    Fitted
        The model itself holds the weights that are kept: those of the best checkpoint, or the last.
    """
    rows = job.rows if rows is None else rows
    evaluation_rows = job.validation if evaluation_rows is None else evaluation_rows
    training = job.recipe.training
    tokenizer = load_tokenizer(job.base, job.recipe.task)
    kind = classification if job.recipe.task == "classification" else causal
    folder = job.checkpoints
    resumed = checkpoints.newest(folder)
    clock = Clock(0.0 if resumed is None else checkpoints.read_clock(resumed))
    arguments = training_arguments(job, folder, evaluates=evaluation_rows is not None, rows=len(rows))
    trainer: Any = kind.trainer(
        _class(kind.trainer_class()),
        model=model,
        arguments=arguments,
        job=job,
        tokenizer=tokenizer,
        rows=rows,
        evaluation_rows=evaluation_rows,
    )
    prepared = trainer.train_dataset
    lengths = [len(ids) for ids in prepared["input_ids"]]
    trainer.trainable = frozenset(name for name, each in model.named_parameters() if each.requires_grad)
    trainer.optimizer_maker = optimizer
    trainer.order = _order(sampler, prepared, lengths, training)
    snapshots = Snapshots(training.snapshots, job.folder / SNAPSHOTS, save)
    begins = [EpochOfSampler(trainer.order)] if hasattr(trainer.order, "start") else []
    for callback in (*begins, *callbacks, clock, snapshots):
        trainer.add_callback(callback)
    bar = LossProgress(job.stage) if job.progress else None
    if bar is not None:
        trainer.add_callback(bar)
    clock.begin()
    try:
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
        trainer.accelerator.wait_for_everyone()  # what follows moves the folder that the others read
        fitted = _account(trainer, lengths, clock, resumed)
    finally:
        if bar is not None:
            bar.close()
    return fitted


def _class(kind: type[Any]) -> type[Any]:
    """Return the trainer's class with our checkpoints, order of rows and optimizer."""

    class _Trainer(TrainableCheckpoints, kind):
        optimizer: Any
        order: Any = None
        optimizer_maker: Any = None

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            del train_dataset
            return self.order

        def _get_eval_sampler(self, eval_dataset: Any) -> Any:
            return ByLength([len(ids) for ids in eval_dataset["input_ids"]])

        def training_step(self, *args: Any, **options: Any) -> Any:
            loss = super().training_step(*args, **options)
            if self.state.global_step == 0:
                _refuse_no_number(float(loss))
            return loss

        def create_optimizer(self, model: Any = None) -> Any:
            if self.optimizer is None and self.optimizer_maker is not None:
                self.optimizer = self.optimizer_maker(self.model if model is None else model)
            return super().create_optimizer(model)

    return _Trainer


def _refuse_no_number(loss: float) -> None:
    """Stop where training further would only spread the NaN of what is trained on."""
    if not math.isfinite(loss):
        raise CarrickError(
            f"the loss of the first step is {loss}, before anything was learned: the base or an adapter on it holds "
            "NaN or infinite weights, or overflows in this precision; begin with sound ones"
        )


def _order(sampler: Any, prepared: Any, lengths: list[int], training: Any) -> Any:
    if sampler is not None:
        return sampler(prepared)
    if training.group_by_length:
        return LengthGrouped(lengths, training.batch_size, training.seed)
    return EpochSampler(len(lengths), training.seed)


def _account(trainer: Any, lengths: list[int], clock: Clock, resumed: Path | None) -> Fitted:
    state = trainer.state
    history = state.log_history
    losses = tuple((each["step"], each["loss"]) for each in history if "loss" in each)
    validation = tuple((each["step"], each["eval_loss"]) for each in history if "eval_loss" in each)
    arguments = trainer.args
    seen = clock.rows_seen(state, trainer.get_total_train_batch_size(arguments), len(lengths))
    mean = sum(lengths) / max(len(lengths), 1)
    kept = state.best_global_step if arguments.load_best_model_at_end else None
    return Fitted(
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        samples_seen=seen,
        tokens_seen=round(mean * seen),
        tokens=sum(lengths),
        losses=losses,
        validation=validation,
        best_step=kept,
        seconds=clock.seconds(),
        trainable=sum(
            each.numel() for name, each in trainer.model.named_parameters() if name in trainer.trainable
        ),
        device=_device(trainer),
        device_count=max(1, arguments.world_size),
        resumed_from=None if resumed is None else int(resumed.name.removeprefix(checkpoints.PREFIX)),
    )


def _device(trainer: Any) -> str:
    import torch  # noqa: PLC0415

    if trainer.args.device.type == "cuda":
        return str(torch.cuda.get_device_name(trainer.args.device))
    return "cpu"
