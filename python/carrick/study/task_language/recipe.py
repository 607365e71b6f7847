"""The recipe of the study of task and language adapters, typed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carrick.config.typed import Recipe

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Initialisation = Literal["zero", "orthogonal", "random"]
Coefficients = Literal["softmax", "free"]


class Adapter(Recipe):
    """The LoRA adapters, all of one shape."""

    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: str


class Training(Recipe):
    """How every adapter is trained."""

    batch_size: Count
    learning_rate: Positive
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "linear"
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    max_length: Count = 64
    precision: Literal["float32", "bfloat16"] = "float32"


class Epochs(Recipe):
    """Passes over the rows by kind of training."""

    task: Count  # task adapter, single-language adapters and mixed-sample training
    language: Count
    alignment: Count
    mixture: Count


class Pace(Recipe):
    """Measured seconds of one core (a training step, a thousand rows that are scored), tokens a row, rows a language.

    They are for plans alone: no result depends on them.
    """

    step: Positive = 0.5
    thousand_rows: Positive = 7.0
    tokens: Positive = 31.0
    train_rows: Count = 1839
    test_rows: Count = 870
    validation_rows: Count = 324


class TaskLanguage(Recipe):
    """Everything that the study depends on."""

    base: str
    seeds: list[Annotated[int, Field(ge=0)]]
    languages: dict[str, str]
    task_language: str
    data_set: str = "xlmt_sentiment"
    labels: list[str]
    adapter: Adapter
    training: Training
    epochs: Epochs
    sample: Share
    initialisations: list[Initialisation]
    sigma: Positive = 0.02
    weights: list[Positive]
    coefficients: list[Coefficients]
    mixture_learning_rate: Positive
    ties_density: Share
    dare_density: Share
    eval_precision: Literal["float32", "bfloat16"] = "float32"
    eval_batch_size: Count = 64
    draws: Count = 1000
    pace: Pace = Pace()

    @model_validator(mode="after")
    def _consistent(self) -> TaskLanguage:
        if self.task_language not in self.languages:
            raise ValueError(
                f"`task_language` is {self.task_language}, none of the languages {', '.join(self.languages)}"
            )
        if len(self.languages) < 2:
            raise ValueError("`languages` needs a language beside `task_language`")
        for name in ("seeds", "initialisations", "weights"):
            if not getattr(self, name):
                raise ValueError(f"`{name}` is empty; name at least one")
        return self

    @property
    def targets(self) -> list[str]:
        """The languages that get a language adapter."""
        return [code for code in self.languages if code != self.task_language]
