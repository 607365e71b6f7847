"""``OUT.carrick-intermediates``: the models of a configuration's named documents, for as long as they are needed.

One run at a time holds the folder. After a failure of the system it stays, with every model that is finished and
a mark of the plan that it was made by, so that the same command again goes on from there; unless the output is
finished.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any, Self

from carrick.errors import BusyError, CarrickError
from carrick.held_folder import LOCK, HeldFolder, intermediates_folder, partial_folder
from carrick.record import NAME as RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from carrick.plan import Plan


class Intermediates(HeldFolder):
    """Context manager: makes and locks the folder, and deletes it when nothing in it is of use any more.

    Parameters
    ----------
    out
        The output folder, absolute.
    names
        Names of the documents; without any, what an earlier configuration left is deleted, and no folder made.
    resumable
        Whether what is finished serves a later run.
    keep
        Whether the models have a place to go to when the output is finished.

    Raises
    ------
    BusyError
        Another run holds the folder.
    """

    def __init__(
        self, out: Path, names: Iterable[str], *, resumable: bool = True, keep: bool = False
    ) -> None:
        super().__init__(intermediates_folder(out))
        self._names = tuple(names)
        self._resumable = resumable
        self._keep = keep
        self._out = out
        self._stood_there = _inode(out)

    def __enter__(self) -> Self:
        if self._names or self.path.is_dir():
            self._take()
            self._remove_strangers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None or not self._worth_keeping(error):
            self._remove()
        self._release()

    def place(self, name: str) -> Path:
        """Folder of one model."""
        return self.path / name

    def is_merged(self, name: str, plan: Plan) -> bool:
        """Whether an interrupted run has finished this model, from the very same files."""
        mark = self._mark(name)
        return (
            mark.is_file() and mark.read_text() == _identity(plan) and (self.place(name) / RECORD).is_file()
        )

    def mark_merged(self, name: str, plan: Plan) -> None:
        """Remember that a model is finished."""
        self._mark(name).write_text(_identity(plan))

    def record(self, name: str) -> dict[str, Any]:
        """Return the record of a model that is finished."""
        content: dict[str, Any] = json.loads((self.place(name) / RECORD).read_text(encoding="utf-8"))
        return content

    def discard(self, name: str) -> None:
        """Delete a model of other files or options, whose room the new one may need."""
        self._mark(name).unlink(missing_ok=True)
        shutil.rmtree(self.place(name), ignore_errors=True)

    def _mark(self, name: str) -> Path:
        return self.path / f"{name}.finished"

    def _remove_strangers(self) -> None:
        """Delete what another configuration with the same output left."""
        own = {LOCK}
        for name in self._names:
            own |= {name, partial_folder(self.place(name)).name, self._mark(name).name}
        self._remove_all_but(own)

    def _worth_keeping(self, error: BaseException) -> bool:
        # What Carrick refuses no second run would mend, but for an output that another run is about to finish.
        if not self._resumable or (isinstance(error, CarrickError) and not isinstance(error, BusyError)):
            return False
        if not self._keep and _inode(self._out) != self._stood_there:
            return False  # the output was finished when the error came
        return self.path.is_dir() and any(entry.name != LOCK for entry in self.path.iterdir())


def _inode(folder: Path) -> int | None:
    try:
        return folder.stat().st_ino
    except OSError:
        return None


def _identity(plan: Plan) -> str:
    """Hash a plan with its files' sizes, times and inodes, which the record's hash leaves out."""
    return hashlib.sha256(plan.to_json().encode()).hexdigest()
