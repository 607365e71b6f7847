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
        self._locks: list[int] = []

    def _take(self) -> None:
        """Make the folder with the parents that it lacks, and lock it.

        Raises
        ------
        BusyError
            Another run holds it.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        self.path.mkdir(parents=True, exist_ok=True)
        # The file goes before the folder gets its last name; the folder stays locked until then.
        for path, flags in ((self.path, os.O_RDONLY), (self.path / LOCK, os.O_RDWR | os.O_CREAT)):
            try:
                handle = _lock(path, flags)
            except BusyError:
                self._release()
                raise
            self._locks += [] if handle is None else [handle]
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
        while self._locks:
            os.close(self._locks.pop())


def _lock(path: Path, flags: int) -> int | None:
    """Lock a folder, or the file in it that stands for it where folders cannot be locked (NFS)."""
    try:
        import fcntl  # noqa: PLC0415  (not on Windows)

        handle = os.open(path, flags, 0o644)
    except ImportError:
        return None
    except FileNotFoundError:
        raise _busy(path) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held, named = os.fstat(handle), path.stat()
    except OSError as error:
        os.close(handle)
        if error.errno in {errno.EWOULDBLOCK, errno.ENOENT}:
            raise _busy(path) from None
        return None  # a file system without locks; one run alone is safe there too
    if (held.st_dev, held.st_ino) != (named.st_dev, named.st_ino):
        os.close(handle)
        raise _busy(path)
    return handle


def _busy(path: Path) -> BusyError:
    folder = path.parent if path.name == LOCK else path
    return BusyError(
        f"{folder}: another run is writing there; wait until it is done, or choose another output"
    )
