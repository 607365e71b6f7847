"""Content keys: what a stage's result depends on, as one checksum."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carrick.study.stage import Stage

_BLOCK = 1 << 20


class Checksums:
    """SHA-256 of files and folders, remembered by path, size and time of change.

    Parameters
    ----------
    remembered
        A JSON file that keeps them between runs; None keeps nothing.
    """

    def __init__(self, remembered: Path | None = None) -> None:
        self._file = remembered
        self._known: dict[str, list[Any]] = {}
        if remembered is not None:
            with suppress(OSError, ValueError):
                self._known = json.loads(remembered.read_text())

    def of(self, path: Path) -> str:
        """Return the checksum of a file, or of the names and contents of all files in a folder.

        Raises
        ------
        FileNotFoundError
            There is no such file or folder.
        """
        if not path.is_dir():
            return self._file_checksum(path)
        files = sorted(inner for inner in path.rglob("*") if inner.is_file())
        if not files:
            raise FileNotFoundError(f"{path} is an empty folder")
        content = [[inner.relative_to(path).as_posix(), self._file_checksum(inner)] for inner in files]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()

    def save(self) -> None:
        """Keep what was computed for the next run."""
        if self._file is not None:
            write_json(self._file, self._known)

    def _file_checksum(self, path: Path) -> str:
        stat = path.stat()
        name, state = os.path.realpath(path), [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(name)
        if known is not None and known[:2] == state:
            return str(known[2])
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        self._known[name] = [*state, digest.hexdigest()]
        return digest.hexdigest()


def stage_key(stage: Stage, needs: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Return the checksum of everything that a stage's result depends on.

    Parameters
    ----------
    stage
        Its function, version and parameters.
    needs
        Keys of the stages it needs.
    files
        Checksums of its files.

    Examples
    --------
    >>> from carrick.study.stage import Stage
    >>> one, other = (Stage("a", "m:f", {"seed": seed}) for seed in (0, 1))
    >>> stage_key(one, {}, {}) == stage_key(other, {}, {})
    False
    """
    content = {
        "function": stage.function,
        "version": stage.version,
        "params": stage.params,
        "needs": dict(needs),
        "files": dict(files),
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> Any:
    """JSON for mappings that are no dict, such as a read-only view."""
    if hasattr(value, "keys"):
        return {key: value[key] for key in value}
    raise TypeError(f"a stage's parameters hold {type(value).__name__}, which JSON cannot hold")


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, ensure_ascii=False, default=_plain) + "\n")
    partial.replace(path)
