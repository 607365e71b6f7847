"""A family of tasks: one benchmark in all its languages, from local files or from the Hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from carrick.evaluate.tasks.files import Row

Splits = dict[str, "list[Row]"]


@dataclass(frozen=True)
class Family:
    """One benchmark, whose rows look alike in every language.

    Attributes
    ----------
    name
        The task's name, as a user asks for it; its YAML file is called so.
    title
        What it is, in a few words.
    metric
        The score that stands for the task in tables and bars.
    folders
        Names that its folder has below the data folder.
    languages
        Codes of the languages that it may have.
    file
        Where the rows of a language lie: from the folder and the language's code.
    read
        Rows of the splits ``test`` and ``shots`` from that file, its folder being the second argument and the
        language's code the third.
    hub, hub_languages
        Data set on the Hub, and what it calls each language; empty where there is none.
    fetch
        Rows of the splits from the Hub: from the data set's id, the name and the code of the language.
    classes
        Names of the classes that `gold` and the answers number, where the task has some.
    """

    name: str
    title: str
    metric: str
    folders: tuple[str, ...]
    languages: Collection[str]
    file: Callable[[Path, str], Path]
    read: Callable[[Path, Path, str], Splits]
    hub: str = ""
    hub_languages: Mapping[str, str] | None = None
    fetch: Callable[[str, str, str], Splits] | None = None
    classes: tuple[str, ...] = ()

    def folder(self, data: Path) -> Path:
        """Folder of the family's files below a data folder, which may be that folder itself.

        Raises
        ------
        ConfigError
            There is none.
        """
        for name in self.folders:
            if (data / name).is_dir():
                return data / name
        if data.name in self.folders and data.is_dir():
            return data
        if not data.is_dir():
            raise ConfigError(f"--data: there is no folder {data}")
        there = [entry.name for entry in data.iterdir() if entry.is_dir()]
        raise ConfigError(
            f"{data}: the task {self.name} lies in a folder {' or '.join(self.folders)} below it, which is not "
            f"there{nearest(self.folders[0], there)}"
        )

    def available(self, data: Path | None) -> list[str]:
        """Codes of the languages that have a file there, or of those of the Hub's data set."""
        if data is None:
            return list(self.hub_languages or {})
        folder = self.folder(data)
        return [code for code in self.languages if self.file(folder, code).exists()]

    def no_file(self, data: Path, language: str) -> str:
        """Say that no language has a file, and where that of one would be."""
        folder = self.folder(data)
        place = (
            f"; that of `{language}` is {self.file(folder, language)}" if language in self.languages else ""
        )
        return f"{folder}: no file of the task {self.name} is there{place}"

    def splits(self, data: str | Path | None = None, language: str = "en", **_: object) -> dict[str, Any]:
        """Return the splits that the harness reads, as `datasets.Dataset`.

        Parameters
        ----------
        data
            The data folder; None fetches the rows from the Hub.
        language
            Code of the language.

        Raises
        ------
        ConfigError
            A language that is not there, a missing file or column.
        """
        from datasets import Dataset  # noqa: PLC0415  (an extra)

        rows = self.rows(None if data is None else Path(data), language)
        return {name: Dataset.from_list(each) for name, each in rows.items() if each}

    def rows(self, data: Path | None, language: str) -> Splits:
        """Return the rows of the splits, as plain dictionaries."""
        self.check_language(data, language)
        if data is None:
            assert self.fetch is not None
            assert self.hub_languages is not None  # the languages were looked up in it
            return self.fetch(self.hub, self.hub_languages[language], language)
        folder = self.folder(data)
        return self.read(self.file(folder, language), folder, language)

    def check_language(self, data: Path | None, language: str) -> None:
        """Raise a ConfigError when there are no rows of that language."""
        there = self.available(data)
        if language in there:
            return
        place = f"{self.hub} on the Hub" if data is None else str(self.folder(data))
        have = f"it has {', '.join(there)}" if there else "it has no language at all"
        if data is not None and language in self.languages:
            missing = self.file(self.folder(data), language)
            raise ConfigError(
                f"{missing}: there is no such file, so the task {self.name} has no `{language}`: {have}"
            )
        raise ConfigError(f"{place}: there is no language `{language}`, {have}{nearest(language, there)}")


def hub_rows(dataset: str, config: str | None, split: str) -> list[Row]:
    """Rows of a data set of the Hub.

    Raises
    ------
    ConfigError
        It cannot be had: no network, no such data set, or a licence to accept first.
    """
    from datasets import load_dataset  # noqa: PLC0415  (an extra)

    try:
        return [dict(row) for row in load_dataset(dataset, config, split=split)]
    except Exception as error:  # the library raises many kinds; whichever, the remedy is the same
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"{dataset}: the data set cannot be had from the Hub ({reason}); give local files with --data"
        ) from None
