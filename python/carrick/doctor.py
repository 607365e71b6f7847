"""What this machine offers to a merge: instruction set, threads, memory limit, speed of a folder's disk."""

from __future__ import annotations

import json
import mmap
import os
import platform
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from carrick import __version__, _core
from carrick.errors import ConfigError
from carrick.memory import budget, container_limit, memory_in_use

_PROBE_BYTES = 256_000_000
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True)
class DiskSpeed:
    """Sequential speed of a folder's disk, measured with a file of 256 MB.

    Attributes
    ----------
    folder
        Where the file was written and read.
    write, read
        Bytes per second. The page cache takes no part where the file system allows direct access; otherwise
        the write includes the sync, and the read may come from memory.
    direct
        Whether the file system allowed direct access.
    free
        Bytes free on the disk.
    """

    folder: str
    write: float
    read: float
    direct: bool
    free: int


@dataclass(frozen=True)
class Diagnosis:
    """Everything that ``carrick doctor`` says.

    ``memory_limit`` is the container's limit in bytes or None, ``memory_budget`` what a merge may take by
    default.
    """

    version: str
    python: str
    system: str
    simd: str
    simd_available: list[str]
    threads: int
    memory_limit: int | None
    memory_budget: int
    build: dict[str, Any]
    disk: DiskSpeed | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def diagnose(folder: str | Path | None = None) -> Diagnosis:
    """Look at this machine, and measure a folder's disk when one is given.

    Raises
    ------
    ConfigError
        When ``folder`` is no folder.
    OSError
        When nothing can be written there.
    """
    limit = container_limit()
    return Diagnosis(
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        simd=_core.simd_level(),
        simd_available=_core.simd_levels(),
        threads=usable_threads(),
        memory_limit=limit,
        memory_budget=budget(None, limit, memory_in_use())[0],
        build=json.loads(_core.build_info()),
        disk=None if folder is None else measure_disk(Path(folder)),
    )


def usable_threads() -> int:
    """Count the CPUs that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def measure_disk(folder: Path, nbytes: int = _PROBE_BYTES) -> DiskSpeed:
    """Write and read a temporary file in ``folder``; it is removed whatever happens.

    Parameters
    ----------
    folder
        An existing folder that can be written to.
    nbytes
        Size of the file, rounded up to blocks of 4 MiB.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder: give a folder whose disk is to be measured")
    blocks = -(-nbytes // _BLOCK_BYTES)
    stats = os.statvfs(folder)
    free = stats.f_bavail * stats.f_frsize
    if free < 2 * blocks * _BLOCK_BYTES:
        raise ConfigError(
            f"{folder}: only {free} bytes are free, too few to measure the disk; free some space"
        )
    handle, name = tempfile.mkstemp(prefix=".carrick-doctor-", dir=folder)
    os.close(handle)
    path = Path(name)
    try:
        with mmap.mmap(
            -1, _BLOCK_BYTES
        ) as block:  # anonymous maps are page-aligned, as direct access wants it
            block.write(os.urandom(_BLOCK_BYTES))
            write, direct = _timed(path, os.O_WRONLY, block, blocks)
            read, _ = _timed(path, os.O_RDONLY, block, blocks)
    finally:
        path.unlink()
    return DiskSpeed(str(folder), write, read, direct, free)


def _timed(path: Path, mode: int, block: mmap.mmap, blocks: int) -> tuple[float, bool]:
    """Bytes per second of moving ``block`` ``blocks`` times, and whether past the page cache."""
    handle, direct = _open_direct(path, mode)
    try:
        if not direct and mode == os.O_RDONLY and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        start = time.perf_counter()
        for number in range(blocks):
            if mode == os.O_WRONLY:
                os.pwritev(handle, [block], number * _BLOCK_BYTES)
            else:
                os.preadv(handle, [block], number * _BLOCK_BYTES)
        if mode == os.O_WRONLY:
            os.fsync(handle)
        return blocks * _BLOCK_BYTES / (time.perf_counter() - start), direct
    finally:
        os.close(handle)


def _open_direct(path: Path, mode: int) -> tuple[int, bool]:
    if hasattr(os, "O_DIRECT"):
        with suppress(OSError):  # tmpfs and some network file systems refuse it
            return os.open(path, mode | os.O_DIRECT), True
    return os.open(path, mode), False
