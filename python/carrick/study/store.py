"""The folder of a study: one folder a stage, with what it was made from beside what it wrote."""

from __future__ import annotations

import errno
import json
import os
import shutil
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError, ConfigError
from carrick.study.keys import Checksums, write_json
from carrick.study.stage import Finished

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from carrick.study.stage import Stage

RECORD = "stage.json"
RUNNING = "running.json"
LOG = "log.txt"
_LOCK = ".lock"


class Store:
    """Stages on disk: which are finished, with which key.

    Parameters
    ----------
    out
        The study's folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.checksums = Checksums(out / "checksums.json")

    def folder(self, name: str) -> Path:
        """Folder of a stage."""
        return self.out / "stages" / name

    def record(self, name: str) -> dict[str, Any] | None:
        """Return what is recorded of a finished stage; None where it is not finished, or the record is damaged."""
        try:
            record = json.loads((self.folder(name) / RECORD).read_text())
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) and "key" in record else None

    def begun(self, name: str) -> str | None:
        """Return the key with which a stage that is not finished was begun."""
        try:
            return str(json.loads((self.folder(name) / RUNNING).read_text())["key"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def finished(self, name: str) -> Finished:
        """Return a finished stage.

        Raises
        ------
        CarrickError
            It is not finished.
        """
        record = self.record(name)
        if record is None:
            raise CarrickError(f"stage {name} of {self.out} is not finished; run the study again")
        return Finished(
            name, self.folder(name), record["result"], record["seconds"], record.get("cpu_seconds", 0.0)
        )

    def begin(self, stage: Stage, key: str) -> Path:
        """Make a stage's folder ready; what an interrupted run with the same key left there stays.

        Returns
        -------
        The folder.
        """
        folder = self.folder(stage.name)
        if folder.exists() and self.begun(stage.name) != key:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / RUNNING, {"key": key, "begun": _now()})
        return folder

    def finish(
        self,
        stage: Stage,
        key: str,
        *,
        needs: Mapping[str, str],
        files: Mapping[str, str],
        result: Mapping[str, Any],
        seconds: float,
        cpu_seconds: float,
    ) -> None:
        """Record that a stage is done; this is the last thing that is written of it."""
        folder = self.folder(stage.name)
        record = {
            "format": "carrick-study-stage",
            "name": stage.name,
            "key": key,
            "function": stage.function,
            "version": stage.version,
            "params": stage.params,
            "needs": dict(needs),
            "files": dict(files),
            "seconds": round(seconds, 3),
            "cpu_seconds": round(cpu_seconds, 3),
            "finished": _now(),
            "result": dict(result),
        }
        write_json(folder / RECORD, record)
        (folder / RUNNING).unlink(missing_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder against a second run.

        Raises
        ------
        ConfigError
            Another run holds it.
        """
        try:
            import fcntl  # noqa: PLC0415  (not on Windows)
        except ImportError:
            yield
            return
        self.out.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.out / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                # A file system without locks (ENOLCK, ENOTSUP): one run alone is safe there too.
                if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
                    raise ConfigError(
                        f"{self.out}: another run of a study is working there; wait for it, or choose another folder"
                    ) from None
            yield
        finally:
            os.close(handle)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
