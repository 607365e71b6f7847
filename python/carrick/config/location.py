"""Where in the configuration something was written, and errors that say so."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from carrick.errors import ConfigError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a configuration: the path of keys and, in a YAML text, file, line and column (from 1).

    Examples
    --------
    >>> print(Location(file="config.yml", line=12, column=5, key="models[0].model"))
    config.yml:12
    >>> print(Location(key="models").item(0).child("model"))
    models[0].model
    """

    file: str | None = None
    line: int | None = None
    column: int | None = None
    key: str = ""

    def __str__(self) -> str:
        if self.file is None:
            return self.key
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def at(self, line: int, column: int) -> Location:
        """Return this location at another line and column of the file."""
        return replace(self, line=line, column=column)

    def child(self, name: str) -> Location:
        """Return the location of a key of the mapping that lies here."""
        return replace(self, key=f"{self.key}.{name}" if self.key else name)

    def item(self, index: int) -> Location:
        """Return the location of an entry of the list that lies here."""
        return replace(self, key=f"{self.key}[{index}]")

    def error(self, message: str) -> ConfigError:
        """Return the error that something here is wrong."""
        return ConfigError(message, file=self.file, line=self.line, column=self.column, key=self.key or None)

    def note(self, message: str) -> str:
        """Return a sentence for the user about something here."""
        return f"{self}: {message}" if str(self) else message

    @contextmanager
    def named(self) -> Iterator[None]:
        """Put this place before what is wrong with a model that a YAML text names here.

        Keys say nothing to someone who gave the models as arguments, so those of Python objects are left out.
        """
        try:
            yield
        except FormatError as error:
            if self.file is None:
                raise
            raise FormatError(f"{self}: {error}") from error
