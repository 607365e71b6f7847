"""The recipe of the paper's experiments on cross-lingual transfer at full scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carrick.config.typed import Recipe
from carrick.study.layer_swap.recipe import Kind, Lora, Simultaneous  # noqa: TC001  (pydantic reads them)
from carrick.study.lsm.recipe import Device, Model  # noqa: TC001

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Training(Recipe):
    """How an expert is trained."""

    epochs: Positive
    batch_size: Count
    accumulate: Count
    learning_rate: Positive
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"]
    warmup: Annotated[float, Field(ge=0, lt=1)]
    clip_norm: Positive
    max_length: Count
    precision: Literal["float32", "bfloat16"]
    gradient_checkpointing: bool


class Condition(Recipe):
    """A model and a language."""

    model: str
    language: str


class Continual(Condition):
    """Continual pretraining in place of SFT: rows of text of each side, and their files."""

    rows: Count
    math: str
    text: str


class Scored(Recipe):
    """Rows of a benchmark in one language, tokens of a prompt with its shots, and of an answer."""

    rows: Count
    prompt: Positive
    answer: Positive


class Plan(Recipe):
    """Tokens a row and sizes of the benchmarks: for time and cost alone."""

    tokens: dict[str, Positive]
    mgsm: Scored
    choices: Scored


class Xlt(Recipe):
    """Everything that the paper's experiments depend on."""

    seeds: list[Annotated[int, Field(ge=0)]]
    models: dict[str, Model]
    languages: list[str]
    kinds: list[Kind]
    rows: Count
    validation: Share
    mixtures: dict[str, list[str]]
    sft: Training
    lora: Lora
    simultaneous: Simultaneous
    ablation: Condition
    ties_density: Annotated[float, Field(gt=0, le=1)]
    continual: Continual | None = None
    max_new_tokens: Count
    shots: dict[str, Annotated[int, Field(ge=0)]]
    selection: str
    selection_languages: list[str]
    plan: Plan
    device: Device

    @model_validator(mode="after")
    def _consistent(self) -> Xlt:
        for condition in filter(None, (self.ablation, self.continual)):
            if condition.model not in self.models:
                raise ValueError(f"`{condition.model}` is none of the models {', '.join(self.models)}")
            if condition.language not in self.languages:
                raise ValueError(
                    f"`{condition.language}` is none of the languages {', '.join(self.languages)}"
                )
        for code in self.languages:
            for name, known in (("plan.tokens", self.plan.tokens), ("mixtures", self.mixtures)):
                if code not in known:
                    raise ValueError(f"`{name}` lacks `{code}`")
        for code in self.selection_languages:
            if code not in self.languages:
                raise ValueError(f"`selection_languages` names {code}, none of {', '.join(self.languages)}")
        return self
