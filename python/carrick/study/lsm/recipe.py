"""The recipe of the paper's experiments at full scale."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from carrick.config.typed import Recipe

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Model(Recipe):
    """A base model and its size, which its cost follows from."""

    base: str
    parameters: Positive


class Merge(Recipe):
    """A way to merge."""

    method: str
    density: Annotated[float, Field(gt=0, le=1)]

    @property
    def id(self) -> str:
        """Name in stages and tables: ``knots-ties-d0.5``."""
        return f"{self.method.replace('_', '-')}-d{self.density:g}"


class TaskPlan(Recipe):
    """A task: where its rows lie, how many are used, how long they are, how it is scored.

    ``passes`` is how often a row goes through the model when it is scored: once for each choice. ``bertscore`` is
    the encoder that compares summaries, which have a second table then.
    """

    evaluate: str
    folder: str
    metric: str
    train: Count
    validation: Count
    test: Count
    tokens: Count
    answer: Count
    passes: Count = 1
    bertscore: str | None = None
    best: Merge


class Adapter(Recipe):
    """The LoRA adapters."""

    rank: Count
    alpha: Positive
    targets: str | list[str] = "all-linear"


class Training(Recipe):
    """How each is trained."""

    epochs: Positive
    batch_size: Count
    learning_rate: Positive
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    max_length: Count
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool = True


class Update(Recipe):
    """More rows for one language."""

    language: str
    more: Count


class TaskUpdate(Update):
    """More rows for one language of a task."""

    task: str


class SizeAblation(Recipe):
    """A second model, with the best merges alone."""

    model: str
    tasks: list[str]


class CaseStudy(Recipe):
    """Unequal weights of languages on data of one's own."""

    languages: list[str]
    task: TaskPlan
    weights: dict[str, float]
    update: Update


class Device(Recipe):
    """What plans count with.

    FLOP/s that training reaches, tokens/s that generation reaches in all, seconds until a model is loaded, the
    price of an hour.
    """

    name: str
    flops: Positive
    decode_tokens_per_second: Positive
    load_seconds: Annotated[float, Field(ge=0)] = 60.0
    price: Annotated[float, Field(ge=0)]
    currency: str = "USD"


class LsmRecipe(Recipe):
    """Everything that the paper's experiments depend on."""

    seeds: list[Annotated[int, Field(ge=0)]]
    models: dict[str, Model]
    chat: bool = False
    languages: list[str]
    clusters: dict[str, list[str]]
    tasks: dict[str, TaskPlan]
    adapter: Adapter
    training: Training
    merges: list[Merge]
    multitask: Merge
    update: TaskUpdate
    size_ablation: SizeAblation
    case_study: CaseStudy
    device: Device

    @model_validator(mode="after")
    def _consistent(self) -> LsmRecipe:
        for name in [self.update.task, *self.size_ablation.tasks]:
            if name not in self.tasks:
                raise ValueError(f"`{name}` is none of the tasks {', '.join(self.tasks)}")
        for code in [self.update.language, *(code for cluster in self.clusters.values() for code in cluster)]:
            if code not in self.languages:
                raise ValueError(f"`{code}` is none of the languages {', '.join(self.languages)}")
        if shared := set(self.clusters) & {*self.languages, "comb"}:
            raise ValueError(
                f"a cluster is called `{min(shared)}`, which is taken; give it a name of its own"
            )
        if self.size_ablation.model not in self.models:
            raise ValueError(f"`{self.size_ablation.model}` is none of the models {', '.join(self.models)}")
        if sorted(self.case_study.weights) != sorted(self.case_study.languages):
            raise ValueError("`case_study.weights` needs one weight for each of its languages")
        known = {merge.id for merge in self.merges}
        for name, task in self.tasks.items():
            if task.best.id not in known:
                raise ValueError(f"`best` of {name} is {task.best.id}, which `merges` does not hold")
        return self

    @model_validator(mode="after")
    def _summaries(self) -> LsmRecipe:
        for name, task in [*self.tasks.items(), ("case_study", self.case_study.task)]:
            if task.bertscore is not None and task.evaluate != "summarisation":
                raise ValueError(f"`bertscore` of {name} compares summaries, its task is {task.evaluate}")
        return self

    @property
    def main(self) -> str:
        """The model that everything is done with: the first."""
        return next(iter(self.models))
