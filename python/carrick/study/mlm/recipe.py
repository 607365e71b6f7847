"""The recipe of the paper's experiments on task and language adapters at full scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carrick.config.typed import Recipe
from carrick.study.lsm.recipe import Device, Model  # noqa: TC001  (pydantic reads them)
from carrick.study.task_language.recipe import (  # noqa: TC001
    Adapter,
    Coefficients,
    Epochs,
    Initialisation,
)

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]


class Experiment(Recipe):
    """A model on a split: one of the paper's tables."""

    model: str
    split: str


class Search(Recipe):
    """The grid of single-language adapters."""

    learning_rate: list[Positive]
    weight_decay: list[Annotated[float, Field(ge=0)]]
    select: Literal["training_loss", "validation"]


class Training(Recipe):
    """How every adapter is trained."""

    batch_size: Count
    learning_rate: Positive
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    max_length: Count
    precision: Literal["float32", "bfloat16"]
    gradient_checkpointing: bool


class Plan(Recipe):
    """Rows a language, tokens a prompt by language, tokens of an answer: for time and cost alone."""

    rows: Count
    tokens: dict[str, Positive]
    answer: Positive


class Mlm(Recipe):
    """Everything that the paper's experiments depend on."""

    seeds: list[Annotated[int, Field(ge=0)]]
    models: dict[str, Model]
    experiments: list[Experiment]
    splits: dict[str, Annotated[float, Field(gt=0, lt=1)]]
    languages: list[str]
    task_language: str
    shots: list[Annotated[int, Field(ge=0)]]
    adapter: Adapter
    search: Search
    training: Training
    epochs: Epochs
    sample: Share
    initialisations: list[Initialisation]
    sigma: Positive
    weights: list[Positive]
    coefficients: list[Coefficients]
    mixture_learning_rate: Positive
    ties_density: Share
    dare_density: Share
    max_new_tokens: Count
    plan: Plan
    device: Device

    @model_validator(mode="after")
    def _consistent(self) -> Mlm:
        for each in self.experiments:
            if each.model not in self.models:
                raise ValueError(f"`{each.model}` is none of the models {', '.join(self.models)}")
            if each.split not in self.splits:
                raise ValueError(f"`{each.split}` is none of the splits {', '.join(self.splits)}")
        if self.task_language not in self.languages:
            raise ValueError(f"`task_language` is {self.task_language}, none of {', '.join(self.languages)}")
        for code in self.languages:
            if code not in self.plan.tokens:
                raise ValueError(f"`plan.tokens` lacks `{code}`")
        return self

    @property
    def targets(self) -> list[str]:
        """The languages that get a language adapter."""
        return [code for code in self.languages if code != self.task_language]
