"""Rows of local files, with errors that name file, line and column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick.config.location import Location
from carrick.errors import ConfigError
from carrick.row_text import BEYOND, as_row_text
from carrick.suggestions import nearest, nearest_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

Row = dict[str, Any]


def text_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file; only the newline ends one, and the last may lack it.

    Raises
    ------
    ConfigError
        No such file, or it is not UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no such file{nearest_file(path)}", file=str(path)) from None
    except IsADirectoryError:
        raise ConfigError("this is a folder where a file should be", file=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is not UTF-8 text (byte {error.start})", file=str(path)) from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def json_lines(path: Path, columns: Sequence[str], texts: Sequence[str] = ()) -> list[Row]:
    """Rows of a file with one JSON object a line; blank lines are passed over.

    Parameters
    ----------
    path
        The file.
    columns
        What every row has to have.
    texts
        Further ones, which have to be text; numbers become text.

    Raises
    ------
    ConfigError
        No such file, no rows, a line that is no JSON object, or one without one of the columns.
    """
    return [row for _, row in located_lines(path, columns, texts)]


def located_lines(
    path: Path, columns: Sequence[str], texts: Sequence[str] = ()
) -> list[tuple[Location, Row]]:
    """Rows as `json_lines` reads them, each with where it stands."""
    return _checked(_objects(path), columns, texts, path)


def located_rows(path: Path, columns: Sequence[str], texts: Sequence[str] = ()) -> list[tuple[Location, Row]]:
    """Rows of one JSON list of objects, or of JSON lines, whichever the file holds; with where each stands.

    Raises
    ------
    ConfigError
        As `json_lines`.
    """
    text = "\n".join(text_lines(path))
    if not text.lstrip().startswith("["):
        return located_lines(path, columns, texts)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"this is no JSON: {error.msg}", file=str(path), line=error.lineno) from None
    except (ValueError, RecursionError):
        raise ConfigError(BEYOND, file=str(path)) from None
    if not all(isinstance(row, dict) for row in rows):
        raise ConfigError("the list holds something else than objects", file=str(path))
    found = ((Location(file=str(path), line=number), row) for number, row in enumerate(rows, start=1))
    return _checked(found, columns, texts, path)


def tab_separated(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of a file without a header whose fields stand between tabs, quotes being letters like others.

    Raises
    ------
    ConfigError
        No such file, no rows, or a line with another number of fields.
    """
    rows = []
    for number, line in enumerate(text_lines(path), start=1):
        fields = line.split("\t")
        if len(fields) != len(columns):
            raise ConfigError(
                f"the line has {len(fields)} fields between tabs, not {len(columns)} ({', '.join(columns)})",
                file=str(path),
                line=number,
            )
        rows.append(dict(zip(columns, fields, strict=True)))
    refuse_none(rows, path)
    return rows


def _objects(path: Path) -> Iterator[tuple[Location, Row]]:
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        where = Location(file=str(path), line=number)
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise where.error(f"the line is no JSON: {error.msg}") from None
        except (ValueError, RecursionError):
            raise where.error(BEYOND) from None
        if not isinstance(row, dict):
            raise where.error("the line is no JSON object")
        yield where, row


def _checked(
    rows: Iterable[tuple[Location, Row]], columns: Sequence[str], texts: Sequence[str], path: Path
) -> list[tuple[Location, Row]]:
    kept = []
    for where, row in rows:
        check_columns(row, [*columns, *texts], where)
        kept.append((where, {**row, **{name: as_text(row[name], name, where) for name in texts}}))
    refuse_none(kept, path)
    return kept


def check_columns(row: Row, columns: Sequence[str], where: Location) -> None:
    """Raise a ConfigError when a row lacks a column."""
    for column in columns:
        if column not in row:
            raise where.error(
                f"the row has no column `{column}`{nearest(column, row)}; its columns are {', '.join(row)}"
            )


def as_text(value: object, name: str, where: Location) -> str:
    """Return a value as text, which it is or, being a number, becomes.

    Raises
    ------
    ConfigError
        It is anything else, or holds half of a character.

    Examples
    --------
    >>> as_text(3, "question", Location(file="de.jsonl", line=7))
    '3'
    >>> as_text(None, "question", Location(file="de.jsonl", line=7))
    Traceback (most recent call last):
    carrick.errors.ConfigError: de.jsonl:7: `question` is missing; it has to be text
    """
    try:
        return as_row_text(value)
    except ValueError as error:
        raise where.error(f"`{name}` {error}") from None


def as_place(value: object, count: int, name: str, where: Location, *, first: int = 0) -> int:
    """Return a value as the place of a choice, from 0.

    Parameters
    ----------
    value
        A whole number, or text that is one.
    count
        How many choices there are.
    name, where
        What and where it is, for the error.
    first
        The number of the first choice in the file.

    Raises
    ------
    ConfigError
        It is none of the choices.

    Examples
    --------
    >>> as_place("4", 4, "correct_answer_num", Location(), first=1)
    3
    """
    numbers = {str(number): number - first for number in range(first, first + count)}
    if isinstance(value, bool) or str(value) not in numbers:
        raise where.error(f"`{name}` is {value!r}; it is a whole number from {first} to {first + count - 1}")
    return numbers[str(value)]


def refuse_none(rows: Sequence[object], path: Path) -> None:
    """Raise a ConfigError when a file has no rows."""
    if not rows:
        raise ConfigError("the file has no rows", file=str(path))
