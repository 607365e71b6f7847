"""Files of rows: JSON Lines, CSV, TSV, Parquet, and data sets of the local cache, as mappings of columns."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.config.location import Location
from carrick.errors import ConfigError
from carrick.row_text import BEYOND
from carrick.suggestions import nearest, nearest_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carrick.train.data_recipe import Source

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
Record = dict[str, Any]


class Table:
    """The rows of one source, with where each of them stands.

    Attributes
    ----------
    name
        The file or data set.
    columns
        Names of the columns, in the order of their first appearance.
    records
        The rows, each a mapping of column to value.
    lines
        The line of each row in its file, from 1; the number of the row where lines mean nothing.
    sha256
        Checksum of the file; of a data set its fingerprint.
    """

    def __init__(self, name: str, records: list[Record], lines: list[int], sha256: str) -> None:
        self.name = name
        self.records = records
        self.lines = lines
        self.sha256 = sha256
        self.columns = list(dict.fromkeys(column for record in records for column in record))

    def error(self, message: str, row: int | None = None) -> ConfigError:
        """Return an error that names the file, and the line of a row in it."""
        return Location(file=self.name, line=None if row is None else self.lines[row]).error(message)

    def require(self, column: str, what: str) -> None:
        """Refuse a column that no row has."""
        if column not in self.columns:
            hint = nearest(column, self.columns) or f"; the columns are {', '.join(self.columns)}"
            raise self.error(f"there is no column `{column}` for {what}{hint}")


def read_table(source: Source) -> Table:
    """Read the rows of a source.

    Parameters
    ----------
    source
        With its path resolved.

    Raises
    ------
    ConfigError
        The file is missing, of no known kind, malformed (with its line), or empty.
    """
    table = _read_file(source) if source.file is not None else _read_dataset(source)
    if not table.records:
        raise table.error("there are no rows in it")
    return table


def _read_file(source: Source) -> Table:
    path = Path(source.file or "")
    where = Location(file=str(path))
    if not path.is_file():
        if path.is_dir():
            raise where.error("this is a folder; give a file")
        raise where.error("there is no such file" + nearest_file(path))
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise where.error(
            f"rows are read from {', '.join(FORMATS)}; {path.suffix or 'no ending'} is none of them"
        )
    if source.names is not None and suffix not in {".csv", ".tsv"}:
        raise where.error(f"`names` is for CSV and TSV; the columns of {suffix} have names of their own")
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if suffix == ".parquet":
        return _read_parquet(path, sha256)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise where.error(f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if suffix == ".jsonl":
        numbered = list(_json_lines(text, where))
    elif suffix == ".json":
        numbered = list(_json_list(text, where))
    else:
        numbered = list(_separated(text, "\t" if suffix == ".tsv" else ",", source.names, where))
    return Table(str(path), [record for _, record in numbered], [line for line, _ in numbered], sha256)


def _json_lines(text: str, where: Location) -> Iterator[tuple[int, Record]]:
    # Only \n ends a line: U+2028 and others, which str.splitlines cuts at, may stand in a JSON string.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        at = Location(file=where.file, line=number)
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise at.error(f"this is not JSON ({error.msg}, column {error.colno})") from None
        except (ValueError, RecursionError):
            raise at.error(BEYOND) from None
        if not isinstance(record, dict):
            raise at.error('a row is a JSON object, {"column": value, …}')
        yield number, record


def _json_list(text: str, where: Location) -> Iterator[tuple[int, Record]]:
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        at = Location(file=where.file, line=error.lineno)
        raise at.error(f"this is not JSON ({error.msg}); one object a line is .jsonl") from None
    except (ValueError, RecursionError):
        raise where.error(BEYOND) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise where.error("a .json file of rows is one list of objects; one object a line is .jsonl")
    yield from enumerate(rows, 1)


def _separated(
    text: str, separator: str, names: list[str] | None, where: Location
) -> Iterator[tuple[int, Record]]:
    head = names
    _refuse_twice(head or [], where)
    for line, cells in _tab_separated(text) if separator == "\t" else _comma_separated(text, where):
        if head is None:
            head = cells
            _refuse_twice(head, where)
            continue
        if len(cells) != len(head):
            at = Location(file=where.file, line=line)
            raise at.error(f"{len(cells)} cells in a row of a table of {len(head)} columns")
        yield line, dict(zip(head, cells, strict=True))


def _tab_separated(text: str) -> Iterator[tuple[int, list[str]]]:
    """Cells of each line that is not blank; there are no quotes: a quotation mark is a character of the text."""
    for number, line in enumerate(text.split("\n"), 1):
        if row := line.removesuffix("\r"):
            yield number, row.split("\t")


def _comma_separated(text: str, where: Location) -> list[tuple[int, list[str]]]:
    # Only \n ends a line here: with newline="" a lone \r would, and str.splitlines cuts at U+2028 and others too.
    reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
    # The module takes a cell of more than 131,072 characters for malformed; a text may be longer.
    longest = csv.field_size_limit(max(len(text), 1))
    try:
        return [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        at = Location(file=where.file, line=reader.line_num)
        if "new-line" in str(error):
            raise at.error(
                "a carriage return (\\r) without a line feed ends no row; put the cell that it is in in quotes"
            ) from None
        raise at.error(f"malformed: {error}") from None
    finally:
        csv.field_size_limit(longest)


def _refuse_twice(head: list[str], where: Location) -> None:
    twice = next((name for number, name in enumerate(head) if name in head[:number]), None)
    if twice is not None:
        raise where.error(f"two columns are called `{twice}`; rename one of them")


def _read_parquet(path: Path, sha256: str) -> Table:
    from pyarrow import ArrowInvalid  # noqa: PLC0415
    from pyarrow.parquet import read_table as read  # noqa: PLC0415

    try:
        records = read(path).to_pylist()
    except ArrowInvalid as error:
        raise Location(file=str(path)).error(f"this is no Parquet file ({error})") from None
    return Table(str(path), records, list(range(1, len(records) + 1)), sha256)


def _read_dataset(source: Source) -> Table:
    from datasets import load_dataset  # noqa: PLC0415

    try:
        dataset = load_dataset(source.dataset, source.config, split=source.split)
    except Exception as error:  # the library raises many kinds; to the user they are one: it cannot be had
        first = str(error).strip().split("\n")[0]
        raise ConfigError(f"the data set {source.name} cannot be loaded: {first}") from None
    records = list(dataset)
    return Table(source.name, records, list(range(1, len(records) + 1)), dataset._fingerprint)
