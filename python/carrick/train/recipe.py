"""The training recipe: every key of the YAML with its type, range and default."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from carrick.config.typed import Recipe, load_typed
from carrick.home import absolute, expanded
from carrick.train.data_recipe import Data  # noqa: TC001  (pydantic reads the annotations)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Adapter", "Cost", "Partition", "Search", "SourcePair", "TrainRecipe", "Training", "load_recipe"]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Method = Literal["fine_tune", "language_adapter", "alignment", "mixture", "simultaneous"]
Task = Literal["causal", "classification"]

# Keys that only some methods read; with another method they would change nothing.
_OF_METHODS: dict[str, tuple[str, ...]] = {
    "task_adapter": ("language_adapter", "alignment"),
    "language_adapter": ("alignment",),
    "initialisation": ("language_adapter",),
    "sigma": ("language_adapter",),
    "weights": ("alignment",),
    "adapters": ("mixture",),
    "coefficients": ("mixture",),
    "sources": ("simultaneous",),
    "steps_per_switch": ("simultaneous",),
    "partition": ("fine_tune", "simultaneous"),
    "adapter": ("fine_tune", "language_adapter", "simultaneous"),
}


class Adapter(Recipe):
    """A LoRA adapter; without one all parameters are fine-tuned."""

    rank: Count
    alpha: Positive | None = None  # the rank: a scale of 1
    dropout: Share = 0.0
    rslora: bool = False
    targets: Literal["all-linear"] | str | list[str] = "all-linear"  # names, or one regular expression
    layers: list[Annotated[int, Field(ge=0)]] | None = None

    @property
    def scale_numerator(self) -> float:
        """α, which is the rank unless it is given."""
        return float(self.rank) if self.alpha is None else self.alpha

    @field_validator("targets")
    @classmethod
    def _targets(cls, value: str | list[str]) -> str | list[str]:
        if not value:
            raise ValueError("`targets` is empty; name modules such as q_proj, or `all-linear`")
        return value


class Training(Recipe):
    """How long, how fast and in what numbers."""

    epochs: Positive | None = None
    steps: Count | None = None
    batch_size: Count = 8
    accumulate: Count = 1
    learning_rate: Positive = 2e-5
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "linear"
    warmup: NotNegative = 0.0  # a ratio below 1, or a number of steps
    max_length: Annotated[int, Field(ge=2)] = 512  # the first token is never predicted
    clip_norm: NotNegative = 1.0  # 0: none
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0)] = 0
    evaluate_every: Literal["epoch"] | Count = "epoch"
    save_every: Literal["epoch", "never"] | Count | None = None  # as often as the evaluation
    keep: Literal["best", "last"] = "best"  # by validation loss; without validation rows: the last
    gradient_checkpointing: bool = False
    snapshots: list[Count] = Field(default_factory=list)
    base_dropout: bool = True
    group_by_length: bool = True

    @model_validator(mode="after")
    def _length(self) -> Training:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("`epochs` and `steps` exclude one another; remove one of them")
        if self.epochs is None and self.steps is None:
            raise ValueError("`training` needs `epochs` or `steps`")
        if self.warmup >= 1 and self.warmup != int(self.warmup):
            raise ValueError(f"`warmup` is {self.warmup}; it is a ratio below 1, or a whole number of steps")
        if self.warmup and self.schedule == "constant":
            raise ValueError("`warmup` does nothing with `schedule: constant`; use constant_with_warmup")
        if self.steps is not None and self.snapshots and max(self.snapshots) > self.steps:
            raise ValueError(
                f"`snapshots` names step {max(self.snapshots)}, but the training ends at step {self.steps}"
            )
        return self


class Partition(Recipe):
    """The parameters that train: a named partition's side of the language or of the task, or a pattern."""

    name: Literal["A", "B", "C", "Z"] | None = None
    side: Literal["language", "task"] | None = None
    match: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Partition:
        if (self.name is None) == (self.match is None):
            raise ValueError("`partition` needs `name` (A, B, C or Z) or `match`, one of them")
        if self.match is not None:
            try:
                re.compile(self.match)
            except re.error as error:
                raise ValueError(f"`match` is no regular expression: {error}") from None
        return self


class SourcePair(Recipe):
    """The two streams of rows that simultaneous training takes turns with, each a block like `data`."""

    task: Data
    language: Data

    @model_validator(mode="after")
    def _alike(self) -> SourcePair:
        if self.task.chat != self.language.chat:
            raise ValueError("`chat` differs between the two sources; a model has one format")
        return self


class Search(Recipe):
    """A grid over learning rate × weight decay, and how its best point is chosen."""

    learning_rate: Annotated[list[Positive], Field(min_length=1)]
    weight_decay: list[NotNegative] = Field(default_factory=lambda: [0.0], min_length=1)
    select: Literal["training_loss", "validation"] = "training_loss"


class Cost(Recipe):
    """The price of one device for one hour; the speed lets a dry run state the cost beforehand."""

    price: NotNegative
    currency: str = "USD"
    tokens_per_second: Positive | None = None


class TrainRecipe(Recipe):
    """One training: what is trained, on which rows, and how."""

    base: str
    task: Task = "causal"
    method: Method = "fine_tune"
    data: Data | None = None
    adapter: Adapter | None = None
    head: str | None = None
    training: Training
    partition: Partition | None = None
    task_adapter: str | list[str] | None = None
    language_adapter: str | None = None
    initialisation: Literal["zero", "orthogonal", "random"] = "zero"
    sigma: Positive = 0.02
    weights: list[float] | None = None
    adapters: list[str] | None = None
    coefficients: Literal["softmax", "free"] = "softmax"
    sources: SourcePair | None = None
    steps_per_switch: Count = 1
    search: Search | None = None
    cost: Cost | None = None

    @model_validator(mode="after")
    def _fits(self) -> TrainRecipe:
        for key, methods in _OF_METHODS.items():
            if key in self.model_fields_set and self.method not in methods:
                belongs = " and ".join(f"`{method}`" for method in methods)
                raise ValueError(
                    f"`{key}` belongs to the method {belongs}, the method here is `{self.method}`"
                )
        for key in _required(self.method):
            if getattr(self, key) is None:
                raise ValueError(f"the method `{self.method}` needs `{key}`")
        if self.task == "classification" and self.head is None:
            raise ValueError("a classification needs `head`, the folder of its frozen head")
        if self.task == "causal" and self.head is not None:
            raise ValueError("`head` belongs to `task: classification`")
        if self.task == "classification" and self.chat:
            raise ValueError(
                "`chat` is for prompts and answers; a classification reads its texts as they are: leave it out"
            )
        if self.search is not None and self.search.select == "validation" and not self.has_validation:
            block = "data" if self.sources is None else "sources.task"
            raise ValueError(f"`select: validation` needs `{block}.validation`")
        return self

    @property
    def blocks(self) -> list[Data]:
        """`data`, or the two of `sources`."""
        blocks = [self.data] if self.sources is None else [self.sources.task, self.sources.language]
        return [block for block in blocks if block is not None]

    @property
    def has_validation(self) -> bool:
        """Whether rows are kept for validation."""
        return any(block.validation is not None for block in self.blocks)

    @property
    def chat(self) -> bool:
        """Whether prompts go through the tokenizer's chat template."""
        return any(block.chat for block in self.blocks)

    @property
    def task_adapters(self) -> list[str]:
        """The task adapters, however many are named."""
        if self.task_adapter is None:
            return []
        return [self.task_adapter] if isinstance(self.task_adapter, str) else self.task_adapter

    @property
    def inputs(self) -> list[str]:
        """The models, adapters, head, files and data sets that it reads, as they are written."""
        models = [self.base, self.head, *self.task_adapters, self.language_adapter, *(self.adapters or [])]
        rows = [ref for block in self.blocks for ref in block.refs]
        return [*(ref for ref in models if ref is not None), *rows]

    def located(self, folder: Path) -> TrainRecipe:
        """Return the recipe with the paths in it taken from ``folder``, which is where the recipe lies."""

        def place(path: str | None) -> str | None:
            return None if path is None else _place(path, folder)

        def places(paths: list[str] | None) -> list[str] | None:
            return None if paths is None else [_place(path, folder) for path in paths]

        adapters = self.task_adapter
        sources = self.sources
        changed: dict[str, Any] = {
            "base": place(self.base),
            "head": place(self.head),
            "task_adapter": places(adapters) if isinstance(adapters, list) else place(adapters),
            "language_adapter": place(self.language_adapter),
            "adapters": places(self.adapters),
            "data": None if self.data is None else self.data.located(folder),
        }
        if sources is not None:
            sides = {"task": sources.task.located(folder), "language": sources.language.located(folder)}
            changed["sources"] = sources.model_copy(update=sides)
        return self.model_copy(update=changed)


def _required(method: str) -> tuple[str, ...]:
    return {
        "fine_tune": ("data",),
        "language_adapter": ("data", "adapter", "task_adapter"),
        "alignment": ("data", "task_adapter", "language_adapter"),
        "mixture": ("data", "adapters"),
        "simultaneous": ("sources", "partition"),
    }[method]


def _place(path: str, folder: Path) -> str:
    """Take a path from where the recipe lies; a name that is not there may be a Hub id and stays as it is."""
    own = expanded(path)
    if own.is_absolute():
        return str(own)
    beside = folder / own
    if beside.exists() or path.startswith(".") or path.endswith("/"):
        return os.path.normpath(beside)
    return path


def load_recipe(source: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[TrainRecipe, Path]:
    """Read a recipe, and the folder that the paths in it are relative to.

    Raises
    ------
    ConfigError
        Anything in it that is unknown, misspelt, missing or out of range.

    Examples
    --------
    >>> training = {"steps": 10, "learning_rate": 1e-4}
    >>> data = {"train": {"file": "en.jsonl", "language": "en"}}
    >>> recipe, folder = load_recipe({"base": "llama/", "data": data, "training": training})
    >>> recipe.training.batch_size, recipe.data.train.language
    (8, 'en')
    """
    recipe = load_typed(source, TrainRecipe, "a training recipe", first="`base`, `data` and `training`")
    folder = absolute(source).parent if isinstance(source, str | os.PathLike) else Path.cwd()
    return recipe, folder
