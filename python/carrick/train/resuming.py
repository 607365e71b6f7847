"""The folder in which a training works, and whose checkpoints it may go on from."""

from __future__ import annotations

import hashlib
import json
import shutil
from typing import TYPE_CHECKING, Any

from carrick.partial import LOCK, PartialFolder
from carrick.train.checkpoints import CLOCK, newest
from carrick.train.job import CHECKPOINTS
from carrick.train.search import POINT, POINTS

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.train.job import Job

KEY = "training-key.json"
# What changes no weight of the result.
_IRRELEVANT = ("cost", "search")


class TrainingFolder(PartialFolder):
    """``OUT.carrick-partial`` of a training: checkpoints and points of a grid outlive what stops a run."""

    own_files = frozenset({KEY, LOCK, CHECKPOINTS, POINTS})

    def __init__(self, out: Path) -> None:
        super().__init__(out, resumable=True)

    def claim(self, job: Job, *, resume: bool) -> None:
        """Empty the folder, unless it holds checkpoints of this very training that are to be gone on from."""
        key = json.dumps(training_key(job), indent=1, sort_keys=True)
        path = self.path / KEY
        if not (resume and path.is_file() and path.read_text("utf-8") == key):
            for entry in self.path.iterdir():
                if entry.name == LOCK:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        path.write_text(key, encoding="utf-8")

    def prepare_commit(self, names: set[str]) -> None:
        """Remove all but ``names``."""
        # First what says that a point or checkpoint is complete: a kill may come before all of it is gone.
        for pattern in (f"{POINTS}/*/{POINT}", f"{CHECKPOINTS}/*/{CLOCK}"):
            for mark in self.path.glob(pattern):
                mark.unlink()
        super().prepare_commit(names)

    def _worth_keeping(self) -> bool:
        checkpoint = any(newest(folder) is not None for folder in self.path.glob(f"**/{CHECKPOINTS}"))
        return checkpoint or next(self.path.glob(f"{POINTS}/*/{POINT}"), None) is not None

    def _remove(self) -> None:
        # Also an error that is Carrick's own may come after hours of training, when the result is exported.
        if not self._worth_keeping():
            super()._remove()


def training_key(job: Job) -> dict[str, Any]:
    """Describe what the weights depend on: another key, and checkpoints are of no use.

    The base and adapters are told by size and time of their files: their content is not read for it.
    """
    recipe = job.recipe.model_dump(mode="json", exclude=set(_IRRELEVANT))
    if job.recipe.search is not None:
        recipe["search"] = "points have keys of their own"
    named = [job.recipe.language_adapter, *job.recipe.task_adapters, *(job.recipe.adapters or [])]
    head = hashlib.sha256(b"")
    if job.head is not None:
        head.update(job.head.weight.tobytes() + job.head.bias.tobytes())
    return {
        "recipe": recipe,
        "device": job.device,
        "base": _files(job.base.path),
        "adapters": [_files(job.base.path.__class__(name)) for name in named if name is not None],
        "head": head.hexdigest(),
        "data": job.rows.account(),
        "validation": None if job.validation is None else job.validation.account(),
    }


def _files(folder: Any) -> list[list[Any]]:
    if not folder.is_dir():
        return [[str(folder)]]
    return [
        [file.name, file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(folder.iterdir())
        if file.suffix in {".safetensors", ".json"}
    ]
