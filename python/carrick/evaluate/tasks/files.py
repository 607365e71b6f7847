"""Rows of local files, with errors that name file, line and column."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.suggestions import nearest

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
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise ConfigError(f"there is no such file{nearest(path.name, beside)}", file=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is not UTF-8 text (byte {error.start})", file=str(path)) from None
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")] if text else []


def json_lines(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of a file with one JSON object a line; blank lines are passed over.

    Raises
    ------
    ConfigError
        No such file, no rows, a line that is no JSON object, or one without one of `columns`.
    """
    return list(_checked(_objects(path), columns, path))


def json_rows(path: Path, columns: Sequence[str]) -> list[Row]:
    """Rows of one JSON list of objects, or of JSON lines, whichever the file holds.

    Raises
    ------
    ConfigError
        As `json_lines`.
    """
    text = "\n".join(text_lines(path))
    if not text.lstrip().startswith("["):
        return json_lines(path, columns)
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"this is no JSON: {error.msg}", file=str(path), line=error.lineno) from None
    if not all(isinstance(row, dict) for row in rows):
        raise ConfigError("the list holds something else than objects", file=str(path))
    return list(_checked(((number, row) for number, row in enumerate(rows, start=1)), columns, path))


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
    return _some(rows, path)


def _objects(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in enumerate(text_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ConfigError(f"the line is no JSON: {error.msg}", file=str(path), line=number) from None
        if not isinstance(row, dict):
            raise ConfigError("the line is no JSON object", file=str(path), line=number)
        yield number, row


def _checked(rows: Iterable[tuple[int, Row]], columns: Sequence[str], path: Path) -> list[Row]:
    kept = []
    for number, row in rows:
        check_columns(row, columns, path, number)
        kept.append(row)
    return _some(kept, path)


def check_columns(row: Row, columns: Sequence[str], path: Path, line: int | None = None) -> None:
    """Raise a ConfigError when a row lacks a column."""
    for column in columns:
        if column not in row:
            raise ConfigError(
                f"the row has no column `{column}`{nearest(column, row)}; its columns are {', '.join(row)}",
                file=str(path),
                line=line,
            )


def _some(rows: list[Row], path: Path) -> list[Row]:
    if not rows:
        raise ConfigError("the file has no rows", file=str(path))
    return rows
