"""What a study is made of: stages, each a function with its parameters, inputs and a folder of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]*")


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage is expected to take; a plan adds it up, and the longest chain of it runs first.

    Attributes
    ----------
    data
        What it reads, for people: ``5,000 rows of English, 600 tokens each``.
    steps
        Optimizer steps.
    tokens
        Tokens that pass through the model.
    flops
        Floating-point operations: 6 · parameters · tokens of training, 2 · parameters · tokens of inference.
    seconds
        Device seconds, from a measurement or from ``flops``.
    cost, currency
        Their price, where devices have one.
    """

    data: str = ""
    steps: int = 0
    tokens: int = 0
    flops: float = 0.0
    seconds: float = 0.0
    cost: float = 0.0
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of a study: a function that fills a folder.

    Parameters
    ----------
    name
        Name of its folder under ``OUT/stages``: lower-case letters, digits, ``. _ + -``.
    run
        ``package.module:function``, or the function itself; it is called with a `Running` and returns plain data
        (a mapping that JSON can hold) or None.
    params
        Parameters that JSON can hold, without paths: they are part of the stage's key.
    needs
        Stages that come first; their folders and results are handed over.
    files
        Files or folders from outside the study by the name the function knows them by; their content is part of
        the key, their place is not.
    version
        Of what the function computes; raise it when finished stages are to be computed anew.
    work
        What it is expected to take.

    Raises
    ------
    ConfigError
        A name that is no folder name, a function that no worker could import.

    Examples
    --------
    >>> stage = Stage("train-en", "carrick.study.languages.training:train", {"seed": 0}, needs=("head",))
    >>> stage.name, stage.needs
    ('train-en', ('head',))
    """

    name: str
    run: str | Callable[[Running], Mapping[str, Any] | None]
    params: Mapping[str, Any] = field(default_factory=_nothing)
    needs: tuple[str, ...] = ()
    files: Mapping[str, Path] = field(default_factory=_nothing)
    version: int = 1
    work: Work = field(default_factory=Work)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"`{self.name}` is no name of a stage: lower-case letters, digits and . _ + -")
        if ":" not in self.function or "<" in self.function:
            raise ConfigError(
                f"stage {self.name}: `{self.function}` is not of the form package.module:function"
            )

    @property
    def function(self) -> str:
        """The function as a worker process imports it."""
        if isinstance(self.run, str):
            return self.run
        return f"{self.run.__module__}:{self.run.__qualname__}"


@dataclass(frozen=True, slots=True)
class Finished:
    """A stage that is done.

    Attributes
    ----------
    name, folder
        Which one, and what it wrote.
    result
        The plain data that its function returned.
    seconds, cpu_seconds
        Wall time of the run that finished it, and the processor time of its process in it.
    """

    name: str
    folder: Path
    result: Mapping[str, Any] = field(default_factory=_nothing)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Running:
    """What a stage's function is called with.

    Attributes
    ----------
    name, params, files
        As the `Stage` has them.
    needs
        The finished stages it asked for, by name.
    folder
        Where it writes. After a kill the same folder is handed over again with what is in it, as long as the
        inputs are the same: a training resumes there.
    say
        Shows a line of progress.
    """

    name: str
    params: Mapping[str, Any]
    needs: Mapping[str, Finished]
    files: Mapping[str, Path]
    folder: Path
    say: Callable[[str], None] = print
