"""The recipe's `data`: which rows of which files, by what columns, in what proportions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from pydantic import Discriminator, Field, Tag, model_validator

from carrick.config.typed import Recipe
from carrick.home import expanded

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Columns", "Data", "Fraction", "Source"]


class Columns(Recipe):
    """Names of the columns: prompt and completion, or text, or text and label."""

    prompt: str | None = None
    completion: str | None = None
    text: str | None = None
    label: str | None = None
    language: str | None = None  # `language` where there is such a column
    task: str | None = None

    @model_validator(mode="after")
    def _pairs(self) -> Columns:
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("`columns` needs `prompt` and `completion` together, or `text`")
        if self.prompt is not None and self.text is not None:
            raise ValueError("`columns` names `prompt` and `text`; a row is one or the other")
        return self


class Source(Recipe):
    """One file, or one split of a data set of the local cache."""

    file: str | None = None
    dataset: str | None = None
    config: str | None = None  # the data set's configuration
    split: str = "train"
    names: list[str] | None = None  # of the columns, for a CSV or TSV without a head
    columns: Columns | None = None  # over the columns of all
    language: str | None = None
    task: str | None = None
    rows: Annotated[int, Field(ge=1)] | None = None  # at most, of each language
    ratio: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Source:
        if (self.file is None) == (self.dataset is None):
            raise ValueError("a source needs `file` or `dataset`, one of them")
        if self.names is not None and self.dataset is not None:
            raise ValueError("`names` is for a CSV or TSV file without a head")
        return self

    @property
    def name(self) -> str:
        """What messages and records call it."""
        return self.file if self.file is not None else f"{self.dataset}[{self.split}]"

    @property
    def ref(self) -> str:
        """The file or data set that it reads."""
        return self.file or self.dataset or ""

    def located(self, folder: Path) -> Source:
        """Return the source with its file taken from ``folder``."""
        if self.file is None:
            return self
        path = expanded(self.file)
        return self.model_copy(update={"file": os.path.normpath(folder / path)})


class Fraction(Recipe):
    """A seeded share of the training rows, of each source and language alike."""

    fraction: Annotated[float, Field(gt=0, lt=1)]


def _kind(value: object) -> str:
    """Tell the forms of `validation` apart before they are checked, so that a message is about the right one."""
    if isinstance(value, list):
        return "several sources"
    fraction = isinstance(value, Fraction) or (isinstance(value, dict) and "fraction" in value)
    return "a fraction" if fraction else "one source"


Validation = Annotated[
    Annotated[Fraction, Tag("a fraction")]
    | Annotated[Source, Tag("one source")]
    | Annotated[list[Source], Tag("several sources")],
    Discriminator(_kind),
]


class Data(Recipe):
    """The rows to train on, and those kept for validation."""

    train: Source | list[Source]
    validation: Validation | None = None
    columns: Columns | None = None
    languages: list[str] | None = None
    tasks: list[str] | None = None
    sample: Annotated[float, Field(gt=0, le=1)] | None = None  # share of the training rows, per language
    chat: bool = False  # prompts go through the tokenizer's chat template
    seed: Annotated[int, Field(ge=0)] = 0  # of choices among rows; apart from the training's

    @model_validator(mode="after")
    def _some(self) -> Data:
        if self.train == [] or self.validation == []:
            raise ValueError("`data` has an empty list of sources; name at least one")
        return self

    @property
    def refs(self) -> list[str]:
        """The files and data sets that it reads."""
        validation = (
            [] if self.validation is None or isinstance(self.validation, Fraction) else self.validation
        )
        parts = (self.train, validation)
        sources = [one for part in parts for one in (part if isinstance(part, list) else [part])]
        return [source.ref for source in sources]

    def located(self, folder: Path) -> Data:
        """Return the block with its files taken from ``folder``."""

        def place(sources: Source | list[Source]) -> Source | list[Source]:
            if isinstance(sources, list):
                return [source.located(folder) for source in sources]
            return sources.located(folder)

        validation = self.validation
        if validation is not None and not isinstance(validation, Fraction):
            validation = place(validation)
        return self.model_copy(update={"train": place(self.train), "validation": validation})
