"""What a method of training is given, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.classifier.head import Head
    from carrick.train.base import Base
    from carrick.train.fitting import Fitted
    from carrick.train.recipe import TrainRecipe
    from carrick.train.rows import Rows

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Job:
    """A training whose request has been checked.

    Attributes
    ----------
    recipe
        With every path resolved.
    base
        The model on disk.
    rows, validation
        Examples; of simultaneous training those of both streams, the task's first.
    streams
        Of simultaneous training the places of each stream's rows in ``rows``.
    head
        A classification's frozen head.
    folder
        Where the result is written; of a dry run it does not exist.
    device
        `cpu` or `cuda`.
    progress
        Whether a bar is shown.
    stage
        What the bar is called.
    dropped
        Training rows left out, as `max_length` cuts them before their answer.
    notes
        Remarks for the user from before the training.
    work
        Where the trainer's checkpoints lie; `checkpoints` in ``folder`` unless several processes share them.
    """

    recipe: TrainRecipe
    base: Base
    rows: Rows
    validation: Rows | None
    folder: Path
    device: str = "cpu"
    head: Head | None = None
    streams: dict[str, range] = field(default_factory=dict)
    progress: bool = False
    stage: str = "train"
    dropped: int = 0
    notes: tuple[str, ...] = ()
    work: Path | None = None

    @property
    def checkpoints(self) -> Path:
        """The folder of the trainer's checkpoints."""
        return self.folder / CHECKPOINTS if self.work is None else self.work


@dataclass(frozen=True)
class Outcome:
    """What a method has trained, its result being written already.

    Attributes
    ----------
    fitted
        What the trainer did.
    method
        The method's own block of the record.
    notes
        Remarks for the user.
    """

    fitted: Fitted
    method: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
