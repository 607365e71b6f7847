"""The recipe of the study of languages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from carrick.config.typed import Recipe
from carrick.suggestions import nearest

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Adapter(Recipe):
    """The LoRA adapters, all of one shape."""

    rank: Count = 8
    alpha: Positive = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    targets: list[str] = Field(default_factory=lambda: ["query", "key", "value", "dense"])


class Training(Recipe):
    """How each adapter is trained."""

    steps: Count
    batch_size: Count = 32
    learning_rate: Positive = 5e-4
    warmup: Annotated[int, Field(ge=0)] = 10
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_length: Count = 64
    precision: Literal["float32", "bfloat16"] = "float32"


class Merge(Recipe):
    """One way to merge the languages' adapters."""

    name: str
    method: str
    density: Annotated[float, Field(gt=0, le=1)] | None = None
    normalize: bool | None = None  # divide by the sum of the weights: of `linear` the mean, else a sum
    lambdas: list[Positive] | None = None  # the best of them on the validation rows

    @property
    def id(self) -> str:
        """Name of the stage's folder."""
        words = [self.method.replace("_", "-")]
        return "-".join([*words, *([] if self.density is None else [f"d{self.density:g}"])])


class Update(Recipe):
    """The language that gets more data, and the share of its rows that the first adapter sees."""

    language: str
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5


class NewLanguage(Recipe):
    """The language that is added to models of all the others."""

    language: str


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


class LanguagesRecipe(Recipe):
    """Everything that the study of languages depends on."""

    base: str
    seeds: list[Annotated[int, Field(ge=0)]]
    languages: dict[str, str]
    data_set: str = "xlmt_sentiment"
    labels: list[str]
    head_language: str
    clusters: dict[str, list[str]]
    adapter: Adapter = Field(default_factory=Adapter)
    training: Training
    merges: list[Merge]
    within: Merge  # of clusters, of the two levels, of the update, and of the new language
    update: Update
    new_language: NewLanguage | None = None  # absent: no language is added
    eval_precision: Literal["float32", "bfloat16"] = "float32"
    eval_batch_size: Count = 64
    draws: Count = 1000
    pace: Pace = Field(default_factory=Pace)

    @field_validator("new_language")
    @classmethod
    def _addable(cls, added: NewLanguage | None, others: ValidationInfo) -> NewLanguage | None:
        known: dict[str, str] = others.data.get("languages", {})
        if added is None or not known:  # languages that are wrong have an error of their own
            return added
        code = added.language
        if code not in known:
            hint = nearest(code, known) or f"; the languages are {', '.join(known)}"
            raise ValueError(f"`new_language` adds `{code}`, which is none of the languages{hint}")
        if code == others.data.get("head_language"):
            raise ValueError(
                f"`new_language` adds `{code}`, whose rows the head is fitted on; add a language that nothing has seen"
            )
        if len(known) < 3:
            raise ValueError("`new_language` leaves one language before the addition; merging needs two")
        return added

    @model_validator(mode="after")
    def _consistent(self) -> LanguagesRecipe:
        if len(self.languages) < 2:
            raise ValueError("`languages` names fewer than two; merging needs two")
        named = [*[code for cluster in self.clusters.values() for code in cluster], self.head_language]
        for code in [*named, self.update.language]:
            if code not in self.languages:
                raise ValueError(f"`{code}` is none of the languages {', '.join(self.languages)}")
        clustered = [code for cluster in self.clusters.values() for code in cluster]
        if sorted(clustered) != sorted(self.languages):
            raise ValueError("`clusters` must hold each language once")
        if len({merge.id for merge in self.merges}) < len(self.merges):
            raise ValueError("`merges` names a method twice with the same density")
        if not self.seeds:
            raise ValueError("`seeds` is empty; name at least one")
        if self.within.id not in {merge.id for merge in self.merges}:
            raise ValueError(f"`within` is {self.within.id}, which `merges` does not hold")
        return self

    @property
    def share_steps(self) -> int:
        """Steps on the drawn share of the updated language's rows: the same number of epochs."""
        return max(1, round(self.training.steps * self.update.share))

    @property
    def combined_steps(self) -> int:
        """Steps of the combined adapter: as many as all languages' together."""
        return self.training.steps * len(self.languages)
