"""Where and with what a benchmark ran."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def _field(path: str, name: str) -> str:
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(name)), "unknown")


def _command(*words: str) -> str:
    finished = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    return finished.stdout.strip() or "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _kernel(release: str) -> str:
    """Return a release's first two numbers; the rest may name the host's own build."""
    return ".".join(release.split(".")[:2])


def facts(work: Path) -> dict[str, Any]:
    """Return the machine, the versions and the commit."""
    packages = ("carrick", "mergekit", "torch", "transformers", "peft", "numpy", "safetensors")
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "l2": _command("getconf", "LEVEL2_CACHE_SIZE"),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": _kernel(platform.release()),
        "filesystem": _command("stat", "-f", "-c", "%T", str(work)),
        "python": platform.python_version(),
        "rustc": _command("rustc", "--version"),
        "versions": {package: _version(package) for package in packages},
        "commit": _command("git", "rev-parse", "--short", "HEAD"),
        "uncommitted": _command("git", "status", "--porcelain", "--untracked-files=no", "rust", "python")
        != "unknown",
    }
