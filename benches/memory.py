"""The memory that the tables show: the same quantity for every tool."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MIB, GIB = 1 << 20, 1 << 30
_DECIMAL = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


def anonymous(runs: Iterable[Mapping[str, Any]]) -> int:
    """Return the largest anonymous memory of a tool's process in any of its runs, the interpreter's included."""
    return max(run["peak_anonymous"] for run in runs)


def resident(runs: Iterable[Mapping[str, Any]]) -> int:
    """Return the largest resident set in any run, mapped files included."""
    return max(run["peak_resident"] for run in runs)


def mib(count: float) -> str:
    """Write bytes in MiB."""
    return f"{count / MIB:.0f} MiB"


def gib(count: float) -> str:
    """Write bytes in GiB."""
    return f"{count / GIB:.1f} GiB"


def planned(words: str) -> str:
    """Write what `carrick plan` says, such as `about 484 MB`, in MiB."""
    found = re.search(r"([\d.,]+) (\w+)", words)
    if found is None or found[2] not in _DECIMAL:
        return words
    return mib(float(found[1].replace(",", "")) * _DECIMAL[found[2]])
