"""The folder beside the output in which a run works until everything is done.

One run at a time holds it. What remains there after a failure is what the next run continues with; a run that
could not even begin leaves nothing.
"""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from carrick.errors import CarrickError, PlanError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

SUFFIX = ".carrick-partial"
JOURNAL = "journal.jsonl"
LOCK = ".lock"


class PartialFolder:
    """Context manager for ``OUT.carrick-partial``: creates it, locks it, and tidies up after a failure.

    Parameters
    ----------
    out
        The output folder, absolute; the partial one stands beside it.

    Raises
    ------
    PlanError
        When another run holds the folder.
    """

    def __init__(self, out: Path) -> None:
        self.path = out.with_name(out.name + SUFFIX)
        self._out = out
        self._made: list[Path] = []
        self._lock: int | None = None

    def __enter__(self) -> Self:
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._made = missing
        try:
            self._lock = _lock(self.path)
        except PlanError:
            self._made = []
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.path.exists() and error is not None:
            # What Carrick refuses (changed inputs, NaN, an impossible plan) no second run would mend.
            if isinstance(error, CarrickError) or not self._worth_keeping():
                self._remove()
            else:
                error.add_note(f"what is done stays in {self.path}: the same command goes on from there")
        if self._lock is not None:
            os.close(self._lock)

    def prepare_commit(self, names: set[str]) -> None:
        """Remove all but ``names``: what a run of another configuration left, and at last the lock."""
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == LOCK):
            if entry.name in names:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _worth_keeping(self) -> bool:
        """Whether a tensor is finished: the journal's first line only says which run this is."""
        with suppress(OSError):
            return (self.path / JOURNAL).read_bytes().count(b"\n") > 1
        return False

    def _remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        for folder in self._made[1:]:
            with suppress(OSError):  # something else has come to live there meanwhile
                folder.rmdir()


def _lock(folder: Path) -> int | None:
    """Lock a file in the folder; the engine locks the folder itself, but only while it runs."""
    try:
        import fcntl  # noqa: PLC0415  (not on Windows)
    except ImportError:
        return None
    path = folder / LOCK
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except FileNotFoundError:
        raise _busy(folder) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, named = os.fstat(handle), path.stat()
    except OSError as error:
        os.close(handle)
        if error.errno in {errno.EWOULDBLOCK, errno.ENOENT}:
            raise _busy(folder) from None
        return None  # a file system without locks; one run alone is safe there too
    if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
        os.close(handle)
        raise _busy(folder)
    return handle


def _busy(folder: Path) -> PlanError:
    return PlanError(
        f"{folder}: another run is writing there; wait until it is done, or choose another output"
    )
