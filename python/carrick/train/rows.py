"""The rows of a training: read, filtered, cut to size and mixed, every choice seeded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from carrick.errors import ConfigError
from carrick.row_text import as_row_text
from carrick.suggestions import nearest
from carrick.train.data_recipe import Columns, Data, Fraction, Source
from carrick.train.table import Table, read_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carrick.train.recipe import Task

TRAIN = "data.train"


class Row(NamedTuple):
    """One example.

    Attributes
    ----------
    text
        The text, or the prompt before the answer.
    answer
        The completion that the loss is taken on; None for plain text and classification.
    label
        What stands in the label's column; None for language models.
    language, task
        Where the row comes from, as far as it is known.
    source
        Number of its source in the recipe, from 0.
    line
        Where it stands in its source: its line from 1, or its number where lines mean nothing.
    """

    text: str
    answer: str | None
    label: str | int | None
    language: str | None
    task: str | None
    source: int
    line: int


@dataclass(frozen=True)
class Rows:
    """Examples with an account of where they come from.

    Attributes
    ----------
    examples
        In the order of sources and files; batches are drawn by a sampler.
    sources
        For each source its `name`, `sha256` and `available` rows.
    """

    examples: tuple[Row, ...]
    sources: tuple[dict[str, Any], ...] = field(default=())

    def __len__(self) -> int:
        return len(self.examples)

    def select(self, indices: Iterable[int]) -> Rows:
        """Return some of the rows."""
        return Rows(tuple(self.examples[index] for index in indices), self.sources)

    @classmethod
    def join(cls, parts: Sequence[Rows]) -> Rows:
        """Put rows of several blocks together; the sources of later ones are numbered on."""
        examples: list[Row] = []
        sources: list[dict[str, Any]] = []
        for part in parts:
            examples += [row._replace(source=row.source + len(sources)) for row in part.examples]
            sources += part.sources
        return cls(tuple(examples), tuple(sources))

    def languages(self) -> dict[str, int]:
        """Count rows by language; rows without one do not count."""
        return _counts(row.language for row in self.examples)

    def tasks(self) -> dict[str, int]:
        """Count rows by task; rows without one do not count."""
        return _counts(row.task for row in self.examples)

    def place(self, index: int) -> str:
        """Name a row by its source and line, as errors do.

        Examples
        --------
        >>> row = Row("How many?", " two", None, "en", None, source=0, line=7)
        >>> Rows((row,), ({"source": "en.jsonl"},)).place(0)
        'en.jsonl:7'
        """
        row = self.examples[index]
        return f"{self.sources[row.source]['source']}:{row.line}"

    def account(self) -> dict[str, Any]:
        """Describe the rows for the record: per source its file, checksum and rows in use."""
        used = Counter(row.source for row in self.examples)
        sources = [{**source, "rows": used[number]} for number, source in enumerate(self.sources)]
        return {
            "rows": len(self),
            "sources": sources,
            "languages": self.languages(),
            "tasks": self.tasks(),
        }


def _counts(names: Iterable[str | None]) -> dict[str, int]:
    return dict(sorted(Counter(name for name in names if name is not None).items()))


def read_rows(data: Data, task: Task) -> tuple[Rows, Rows | None]:
    """Read the training rows and those for validation.

    Parameters
    ----------
    data
        The block of a recipe, its paths resolved.
    task
        Decides which columns a row needs.

    Raises
    ------
    ConfigError
        A file or column is missing, a language or task is unknown, or nothing is left of a split.
    """
    train = read_sources(_listed(data.train), data, task, TRAIN)
    validation = None
    ratios = [source.ratio for source in _listed(data.train)]
    if isinstance(data.validation, Fraction):
        whole = train
        train, validation = _split(whole, data.validation.fraction, data.seed)
        _refuse_emptied(whole, train, ratios)
    elif data.validation is not None:
        validation = read_sources(_listed(data.validation), data, task, "data.validation")
    refuse_mixture(train, validation)
    if data.chat and task == "causal" and train.examples[0].answer is None:
        raise ConfigError(
            f"data.chat: {train.sources[0]['source']} holds plain texts, and a chat template is for prompts with "
            "answers; leave `chat` out"
        )
    if data.sample is not None:
        train = _sample(train, data.sample, data.seed)
    train = _mix(train, ratios, data.seed)
    return train, validation


def read_sources(sources: Sequence[Source], data: Data, task: Task, what: str) -> Rows:
    """Read several sources, leave only the languages and tasks asked for, and cut each to its `rows`.

    Raises
    ------
    ConfigError
        As for :func:`read_rows`.
    """
    rows: list[list[Row]] = []
    accounts: list[dict[str, Any]] = []
    for number, source in enumerate(sources):
        table = read_table(source)
        rows.append(_examples(table, source, data.columns, task, number))
        accounts.append({"source": source.name, "sha256": table.sha256, "available": len(table.records)})
    every = [row for part in rows for row in part]
    if what == TRAIN:  # rows for validation may well be of some of the languages only
        _refuse_unknown(data.languages, "language", {row.language for row in every})
        _refuse_unknown(data.tasks, "task", {row.task for row in every})
    chosen: list[Row] = []
    for part, source in zip(rows, sources, strict=True):
        kept = [
            row
            for row in part
            if (data.languages is None or row.language in data.languages)
            and (data.tasks is None or row.task in data.tasks)
        ]
        chosen += _limit(kept, source.rows, data.seed)
    if not chosen:
        raise ConfigError(f"`{what}` is empty: no row has a language and a task that are asked for")
    return Rows(tuple(chosen), tuple(accounts))


def refuse_mixture(train: Rows, validation: Rows | None) -> None:
    """Refuse plain texts beside prompts with answers: the loss is taken on all of a row, or on its answer."""
    kinds: dict[bool, str] = {}
    for part in (train, validation):
        for row in part.examples if part is not None else ():
            kinds.setdefault(row.answer is None, str(part.sources[row.source]["source"] if part else ""))
    if len(kinds) > 1:
        raise ConfigError(
            f"{kinds[True]} holds plain texts and {kinds[False]} prompts with answers; train on one kind, or name "
            "the columns of each source"
        )


def _listed(sources: Source | list[Source]) -> list[Source]:
    return sources if isinstance(sources, list) else [sources]


def _examples(table: Table, source: Source, shared: Columns | None, task: Task, number: int) -> list[Row]:
    names = _columns(table, source.columns or shared or Columns(), task)
    language = _name_column(table, names.language, "language", source.language)
    kind = _name_column(table, names.task, "task", source.task)
    first = names.prompt or names.text or ""
    rows = []
    for index, record in enumerate(table.records):
        text = _text(table, index, first)
        answer = _text(table, index, names.completion) if names.completion else None
        label = _label(table, index, names.label) if names.label else None
        rows.append(
            Row(
                text,
                answer,
                label,
                _named(record, language, source.language),
                _named(record, kind, source.task),
                number,
                table.lines[index],
            )
        )
    return rows


def _columns(table: Table, names: Columns, task: Task) -> Columns:
    """Fill in the usual names for columns that the recipe does not name, and see that all are there."""
    if task == "classification":
        names = names.model_copy(update={"text": names.text or "text", "label": names.label or "label"})
        if names.prompt is not None:
            raise table.error("a classification needs the columns `text` and `label`, not `prompt`")
    elif names.prompt is None and names.text is None:
        pair = {"prompt": "prompt", "completion": "completion"}
        plain = "text" in table.columns and "prompt" not in table.columns
        names = names.model_copy(update={"text": "text"} if plain else pair)
    if task == "causal" and names.label is not None:
        raise table.error("`label` is for `task: classification`; a language model learns `completion`")
    for role in ("prompt", "completion", "text", "label", "language", "task"):
        column = getattr(names, role)
        if column is not None:
            table.require(column, f"`{role}` (data.columns)")
    return names


def _name_column(table: Table, column: str | None, usual: str, fixed: str | None) -> str | None:
    """Return the column that names each row's language or task: as told, the usual one, or none."""
    if fixed is not None:
        return None
    return column or (usual if usual in table.columns else None)


def _named(record: dict[str, Any], column: str | None, fixed: str | None) -> str | None:
    if column is None:
        return fixed
    value = record.get(column)
    return None if value is None else str(value)


def _text(table: Table, row: int, column: str) -> str:
    try:
        text = as_row_text(table.records[row].get(column))
        if not text.strip():
            raise ValueError("is empty; it has to be text")
    except ValueError as error:
        raise table.error(f"row {row + 1}: the column `{column}` {error}", row) from None
    return text


def _label(table: Table, row: int, column: str) -> str | int:
    value = table.records[row].get(column)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise table.error(
            f"row {row + 1}: the label in `{column}` is {value!r}; it is a name or a number", row
        )
    return value


def _refuse_unknown(wanted: list[str] | None, what: str, present: set[str | None]) -> None:
    known = sorted(name for name in present if name is not None)
    for name in wanted or []:
        if name not in known:
            hint = nearest(name, known) or (
                f"; there are {', '.join(known)}" if known else f"; no row says its {what}"
            )
            raise ConfigError(f"data.{what}s: no row has the {what} `{name}`{hint}")


def _groups(rows: Sequence[Row]) -> dict[tuple[int, str], list[int]]:
    """Return the indices of the rows of each source and language."""
    groups: dict[tuple[int, str], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((row.source, row.language or ""), []).append(index)
    return groups


def _generator(seed: int, step: str, group: tuple[int, str]) -> np.random.Generator:
    """Return a generator of its own for each source and language, so that others do not change its choice."""
    return np.random.default_rng([seed, group[0], *step.encode(), *group[1].encode()])


def _choice(indices: list[int], count: int, generator: np.random.Generator) -> list[int]:
    """Choose some of the indices, kept in their order."""
    picked = generator.permutation(len(indices))[:count]
    return [indices[place] for place in sorted(picked)]


def _limit(rows: list[Row], most: int | None, seed: int) -> list[Row]:
    if most is None:
        return rows
    chosen = [
        index
        for group, indices in _groups(rows).items()
        for index in _choice(indices, most, _generator(seed, "rows", group))
    ]
    return [rows[index] for index in sorted(chosen)]


def _sample(rows: Rows, share: float, seed: int) -> Rows:
    """Keep a share of each language of each source, one row of it at least."""
    chosen = [
        index
        for group, indices in _groups(rows.examples).items()
        for index in _choice(indices, max(1, round(share * len(indices))), _generator(seed, "sample", group))
    ]
    return rows.select(sorted(chosen))


def _split(rows: Rows, fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Set a share of each language of each source aside."""
    aside: set[int] = set()
    for group, indices in _groups(rows.examples).items():
        count = round(fraction * len(indices))
        aside.update(_choice(indices, count, _generator(seed, "validation", group)))
    rest = [index for index in range(len(rows)) if index not in aside]
    if not aside or not rest:
        empty = "validation" if not aside else "training"
        raise ConfigError(
            f"data.validation.fraction is {fraction}: of {len(rows)} rows none is left for {empty}"
        )
    return rows.select(rest), rows.select(sorted(aside))


def _refuse_emptied(whole: Rows, rest: Rows, ratios: Sequence[float | None]) -> None:
    """Refuse a mix of which validation took a whole source: its proportion cannot be had."""
    lost = {row.source for row in whole.examples} - {row.source for row in rest.examples}
    if lost and any(ratio is not None for ratio in ratios):
        raise ConfigError(
            f"{whole.sources[min(lost)]['source']}: `data.validation.fraction` takes all of its rows, and none is left "
            "for the `ratio` of sources; lower the fraction, or leave the source out"
        )


def _mix(rows: Rows, ratios: Sequence[float | None], seed: int) -> Rows:
    """Cut sources down to the ratios asked for; as many rows as there can be without repeating one.

    A source of which `languages` and `tasks` leave nothing takes no part.
    """
    if all(ratio is None for ratio in ratios):
        return rows
    by_source: dict[int, list[int]] = {}
    for index, row in enumerate(rows.examples):
        by_source.setdefault(row.source, []).append(index)
    parts = {number: 1.0 if (ratio := ratios[number]) is None else ratio for number in by_source}
    unit = min(len(indices) / parts[number] for number, indices in by_source.items())
    chosen: list[int] = []
    for number, indices in by_source.items():
        count = max(1, round(unit * parts[number]))
        chosen += _choice(indices, count, _generator(seed, "ratio", (number, "")))
    return rows.select(sorted(chosen))
