"""One merge as it was written: typed, frozen, checked; nothing here has looked at a model yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import re
    from collections.abc import Mapping

    from carrick.config.adapter import AdapterOptions
    from carrick.config.location import Location
    from carrick.config.model_ref import ModelRef
    from carrick.config.settings import Setting, Settings
    from carrick.methods import Method

Role = Literal["task", "language"]
Place = Literal["task", "language", "average", "base"]


@dataclass(frozen=True, slots=True)
class Source:
    """A model of a merge: all of it, or the layers [first, end) of `layer_range`."""

    ref: ModelRef
    layer_range: tuple[int, int] | None
    parameters: Settings
    where: Location
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Slice:
    """Models that are merged with one another into a run of layers, or into the whole output.

    `sources` are in the order of listing; a base that `models` does not list is their last. `base` is the one
    among them that is the base, `merged` are the others: the models without the base, whose places key the
    random masks. `layers` is the number of layers of a written slice, None for whole models.
    """

    sources: tuple[Source, ...]
    base: Source | None
    merged: tuple[Source, ...]
    parameters: Settings
    layers: int | None
    where: Location


@dataclass(frozen=True, slots=True)
class LayerSwap:
    """What `layer_swap` takes from the language expert; everything else comes from the task expert.

    Either a partition of the paper, or the first and last layers (a whole number counts them, a float is a
    fraction of all), or the tensors in whose names `match` is found.
    """

    task: Source
    language: Source
    partition: Literal["A", "B", "C", "Z"] | None
    first: int | float | None
    last: int | float | None
    match: re.Pattern[str] | None
    embeddings: Place
    head: Place
    final_norm: Place


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A chat template: `auto` (the one most models have), the name of a known one, or its own Jinja text."""

    kind: Literal["auto", "named", "jinja"]
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """One merge. `name` is None for the output, else the name by which other documents refer to it."""

    method: Method
    name: str | None
    base_model: ModelRef | None
    parts: tuple[Slice, ...]
    stacked: bool
    parameters: Settings
    variant: str | None
    dtype: str | None
    out_dtype: str | None
    tokenizer: Literal["base"] | ModelRef | None
    chat_template: ChatTemplate | None
    seed: int | None
    tie: Literal["keep", "untie"] | None
    extra_tensors: Literal["error", "base", "first"]
    roles: Mapping[str, tuple[re.Pattern[str], ...]]
    layer_swap: LayerSwap | None
    depends_on: tuple[str, ...]
    notes: tuple[str, ...]
    text: str
    where: Location
    adapter: AdapterOptions | None = None  # of a merge of adapters; None merges checkpoints

    @property
    def donor(self) -> ModelRef:
        """The model that gives configuration, tokenizer and dtype: the base, or the first one listed."""
        return self.base_model or self.parts[0].sources[0].ref

    @property
    def output_dtype(self) -> str | None:
        """The output's element type as safetensors names it; None: that of the donor."""
        return self.out_dtype or self.dtype

    @property
    def levels(self) -> tuple[Settings, ...]:
        """The settings of every level: the document's, each slice's, each model's."""
        levels = [self.parameters]
        for part in self.parts:
            levels += [part.parameters, *(source.parameters for source in part.sources)]
        return tuple(levels)

    @property
    def gradients(self) -> tuple[Setting, ...]:
        """The settings whose values differ between layers."""
        return tuple(setting for level in self.levels for setting in level.values() if setting.is_gradient)

    @property
    def referenced_models(self) -> tuple[ModelRef, ...]:
        """All models whose files are needed, each once, the donor first."""
        refs = [self.donor, *(source.ref for part in self.parts for source in part.sources)]
        if self.tokenizer is not None and self.tokenizer != "base":
            refs.append(self.tokenizer)
        return tuple(dict.fromkeys(refs))
