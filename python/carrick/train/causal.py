"""Training of a language model: trl's SFTTrainer over prompts and answers, or over plain text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from carrick.train.job import Job
    from carrick.train.rows import Row, Rows


def trainer_class() -> type[Any]:
    """Return trl's SFTTrainer, its validation loss a mean over tokens."""
    from trl import SFTTrainer  # noqa: PLC0415

    from carrick.train.validation_loss import MeanOverTokens  # noqa: PLC0415

    class _Trainer(MeanOverTokens, SFTTrainer):
        pass

    return _Trainer


def trainer(
    kind: type[Any],
    *,
    model: nn.Module,
    arguments: dict[str, Any],
    job: Job,
    tokenizer: Any,
    rows: Rows,
    evaluation_rows: Rows | None,
) -> Any:
    """Build the trainer, which tokenises the rows and masks the prompts."""
    from transformers import PrinterCallback  # noqa: PLC0415
    from trl import SFTConfig  # noqa: PLC0415

    chat = job.recipe.chat
    # The configuration's own defaults are for GPUs (bf16, gradient checkpointing): all are given.
    config = SFTConfig(**arguments, max_length=job.recipe.training.max_length, packing=False)
    built = kind(
        model=model,
        args=config,
        train_dataset=_dataset(rows, chat=chat),
        eval_dataset=None if evaluation_rows is None else _dataset(evaluation_rows, chat=chat),
        processing_class=tokenizer,
    )
    built.remove_callback(PrinterCallback)
    return built


def _dataset(rows: Rows, *, chat: bool) -> Any:
    from datasets import Dataset  # noqa: PLC0415

    records = [{**_record(row, chat=chat), "row": number} for number, row in enumerate(rows.examples)]
    return Dataset.from_list(records)


def _record(row: Row, *, chat: bool) -> dict[str, Any]:
    if row.answer is None:
        return {"text": row.text}
    if not chat:
        return {"prompt": row.text, "completion": row.answer}
    return {
        "prompt": [{"role": "user", "content": row.text}],
        "completion": [{"role": "assistant", "content": row.answer}],
    }
