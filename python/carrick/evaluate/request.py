"""What an evaluation is asked for, once it is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from carrick.evaluate.report import TaskResult
from carrick.evaluate.tasks.family import Family, Splits

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from carrick.evaluate.settings import Settings

Progress = Callable[[int, int, str], None]
Rows = list[tuple[Family, str, Splits]]
Found = tuple[str, list[TaskResult], list[str]]
"""Name of what was evaluated, results, remarks."""


@dataclass(frozen=True)
class Request:
    """A model, adapters of it, and the rows of every task and language that it is asked.

    Attributes
    ----------
    model, adapters
        As `evaluate` takes them.
    rows
        Task, language and splits, in the order in which they run.
    settings
        How they are asked.
    device
        Where the model runs.
    watch
        Called before each task and language with how many are done, how many there are, and its name.
    download
        Fetch from the Hub what is not in the local cache.
    """

    model: str | Path | Any
    adapters: tuple[str | Path, ...]
    rows: Rows
    settings: Settings
    device: torch.device
    watch: Progress
    download: bool = False
