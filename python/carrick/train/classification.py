"""Training of a classifier: texts tokenised once, the loss of a frozen head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.classifier.predict import pad
from carrick.errors import CarrickError

if TYPE_CHECKING:
    from torch import nn

    from carrick.train.job import Job
    from carrick.train.rows import Rows


def trainer_class() -> type[Any]:
    """Return transformers' Trainer."""
    from transformers import Trainer  # noqa: PLC0415

    kind: type[Any] = Trainer
    return kind


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
    """Build the trainer over tokenised rows."""
    from transformers import PrinterCallback, TrainingArguments  # noqa: PLC0415

    built = kind(
        model=model,
        args=TrainingArguments(**arguments),
        data_collator=_Collator(tokenizer.pad_token_id or 0),
        train_dataset=_tokenised(rows, job, tokenizer),
        eval_dataset=None if evaluation_rows is None else _tokenised(evaluation_rows, job, tokenizer),
    )
    built.remove_callback(PrinterCallback)
    return built


class _Tokenised:
    """Rows as lists of tokens, held in memory: a training reads each of them many times."""

    def __init__(self, input_ids: list[list[int]], labels: list[int]) -> None:
        self._columns: dict[str, list[Any]] = {
            "input_ids": input_ids,
            "labels": labels,
            "row": list(range(len(labels))),
        }

    def __len__(self) -> int:
        return len(self._columns["labels"])

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self._columns[key]
        return {"input_ids": self._columns["input_ids"][key], "labels": self._columns["labels"][key]}


class _Collator:
    """Pads the rows of a batch to the longest of them."""

    def __init__(self, padding: int) -> None:
        self._padding = padding

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch  # noqa: PLC0415

        tokens, mask = pad([row["input_ids"] for row in rows], self._padding)
        labels = torch.tensor([row["labels"] for row in rows])
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def _tokenised(rows: Rows, job: Job, tokenizer: Any) -> _Tokenised:
    if job.head is None:
        raise CarrickError("a classification is trained with a head")
    head, length = job.head, job.recipe.training.max_length
    texts = [row.text for row in rows.examples]
    ids = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    return _Tokenised(ids, [head.index(row.label if row.label is not None else "") for row in rows.examples])
