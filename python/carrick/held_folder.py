"""The folders beside an output that one run at a time works in: where they lie, and how they are held."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

from carrick.errors import BusyError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

LOCK = ".lock"


def partial_folder(out: Path) -> Path:
    """Where an unfinished output lies, beside the finished one.

    >>> from pathlib import Path
    >>> partial_folder(Path("models/merged")).as_posix()
    'models/merged.carrick-partial'
    """
    return out.with_name(out.name + ".carrick-partial")


def intermediates_folder(out: Path) -> Path:
    """Where the models of a configuration's named documents are merged, beside the output.

    >>> from pathlib import Path
    >>> intermediates_folder(Path("models/merged")).as_posix()
    'models/merged.carrick-intermediates'
    """
    return out.with_name(out.name + ".carrick-intermediates")


class HeldFolder:
    """A folder beside an output; what a run does with it, and when it goes, is its subclasses' matter.

    Parameters
    ----------
    path
        The folder, absolute.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: list[Path] = []
        self._lock: int | None = None

    def _take(self) -> None:
        """Make the folder with the parents that it lacks, and lock it.

        Raises
        ------
        BusyError
            Another run holds it.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path)
        self._made = missing

    def _remove_all_but(self, names: Collection[str]) -> None:
        """Delete what has another name, at last the lock."""
        for entry in sorted(self.path.iterdir(), key=lambda entry: entry.name == LOCK):
            if entry.name in names:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def _remove(self) -> None:
        """Delete the folder, and the parents that it was made with; all of it, if Ctrl-C comes meanwhile."""
        try:
            shutil.rmtree(self.path, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(self.path, ignore_errors=True)
            raise
        for folder in self._made[1:]:
            with suppress(OSError):  # something else has come to live there meanwhile
                folder.rmdir()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


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


def _busy(folder: Path) -> BusyError:
    return BusyError(
        f"{folder}: another run is writing there; wait until it is done, or choose another output"
    )
