"""Sizes as people write them, and the memory that a run may take.

A container's limit is a ceiling that the kernel enforces by killing the process, so the budget never exceeds
what the container leaves to us, whatever was asked for.
"""

from __future__ import annotations

import re
from pathlib import Path

from carrick.errors import ConfigError

DEFAULT_BUDGET = 1 << 30
"""Bytes that the engine may allocate when nothing was asked for (1 GiB)."""

SMALLEST_BUDGET = 32 << 20
"""Below this even a container's limit does not push the budget (32 MiB)."""

UNITS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([A-Za-z]*)\s*")
_UNLIMITED = 1 << 60  # version 1 of cgroups writes "no limit" as 2⁶³ rounded down to a page


def parse_size(text: str | int, what: str = "size") -> int:
    """Read a size such as ``512MiB``, ``5GB`` or ``1000000``.

    Parameters
    ----------
    text
        A number with a unit (kB, MB, GB, TB: powers of 1000; KiB, MiB, GiB, TiB: powers of 1024), or bytes.
    what
        What the size is for, as the error names it.

    Returns
    -------
    int
        Bytes, at least 1.

    Raises
    ------
    ConfigError
        When the text is no size, or is zero.

    Examples
    --------
    >>> parse_size("512MiB"), parse_size("5GB"), parse_size("1.5 GiB"), parse_size(4096)
    (536870912, 5000000000, 1610612736, 4096)
    """
    match = _SIZE.fullmatch(str(text))
    number, unit = match.groups() if match else ("", "")
    scale = UNITS.get((unit or "b").lower())
    if match is None or scale is None:
        half = number and f"{unit}b".lower() in UNITS
        hint = f"; did you mean {number}{unit}B or {number}{unit}iB?" if half else ""
        raise ConfigError(f"{what} {text!r} is no size: write it like 512MiB, 5GB or a number of bytes{hint}")
    nbytes = int(number) * scale if number.isdigit() else int(float(number) * scale)
    if nbytes < 1:
        raise ConfigError(f"{what} {text!r} is zero: it must be at least one byte")
    return nbytes


def format_size(nbytes: float) -> str:
    """Write a size for people, in powers of 1000 with three digits.

    Examples
    --------
    >>> format_size(0), format_size(999), format_size(1536), format_size(5_000_000_000)
    ('0 B', '999 B', '1.54 kB', '5.00 GB')
    """
    size, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if abs(size) < 999.5:
            break
        size, unit = size / 1000, larger
    if unit == "B":
        return f"{size:.0f} B"
    return f"{size:.{max(0, 2 - (len(str(int(abs(size)))) - 1))}f} {unit}"


def format_memory(nbytes: int) -> str:
    """Write an amount of memory for people, in powers of 1024.

    Examples
    --------
    >>> format_memory(1 << 30), format_memory(1536 << 20), format_memory(500 << 20)
    ('1 GiB', '1.5 GiB', '500 MiB')
    """
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if nbytes >= scale:
            return f"{nbytes / scale:.4g} {unit}"
    return f"{nbytes} B"


def container_limit(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that the container (cgroup version 1 or 2) lets us use, or None without a limit.

    The tightest limit on the way from the process's own group up to the root counts.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return None
    limits = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if not controllers:
            limits += _limits(cgroups, group, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(cgroups / "memory", group, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(root: Path, group: str, name: str) -> list[int]:
    found = []
    folder = root / group.lstrip("/")
    for level in (folder, *folder.parents):
        try:
            text = (level / name).read_text().strip()
        except OSError:
            text = "max"  # inside a container the group's path is often not visible; its root is
        if text.isdigit() and int(text) < _UNLIMITED:
            found.append(int(text))
        if level == root:
            break
    return found


def memory_in_use(proc: Path = Path("/proc")) -> int:
    """Return the bytes of anonymous memory that this process holds, 0 where the system does not tell."""
    try:
        status = (proc / "self" / "status").read_text()
    except OSError:
        return 0
    match = re.search(r"^RssAnon:\s*(\d+) kB$", status, re.MULTILINE)
    return int(match.group(1)) * 1024 if match else 0


def budget(asked: str | int | None, limit: int | None, in_use: int) -> tuple[int, str | None]:
    """Choose the engine's budget: what was asked for, kept below what the container leaves.

    Parameters
    ----------
    asked
        ``--memory`` as written, or None for the default of 1 GiB.
    limit
        The container's limit in bytes (:func:`container_limit`), or None.
    in_use
        Bytes that the interpreter holds already and that count against the limit.

    Returns
    -------
    nbytes
        The budget in bytes.
    note
        A sentence when the container forced it below what was asked for, else None.

    Examples
    --------
    >>> budget("1GiB", 512 << 20, 64 << 20)
    (469762048, 'the memory budget is 448 MiB instead of 1 GiB: the container is limited to 512 MiB')
    >>> budget(None, None, 0)
    (1073741824, None)
    """
    wanted = DEFAULT_BUDGET if asked is None else parse_size(asked, "memory")
    if limit is None or wanted <= limit - in_use:
        return wanted, None
    allowed = min(wanted, max(SMALLEST_BUDGET, limit - in_use))
    if allowed == wanted:
        return wanted, None
    note = (
        f"the memory budget is {format_memory(allowed)} instead of {format_memory(wanted)}: "
        f"the container is limited to {format_memory(limit)}"
    )
    return allowed, note
