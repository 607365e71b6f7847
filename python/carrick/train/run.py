"""`carrick.train`: from a recipe to a trained adapter or model with its record."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.extras import require
from carrick.home import absolute
from carrick.output_folder import check_replaceable
from carrick.plan.output import check_named_inputs
from carrick.train.job import CHECKPOINTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.train.job import Job, Outcome

METHODS = {
    "fine_tune": "carrick.train.fine_tune",
    "language_adapter": "carrick.train.language_adapter",
    "alignment": "carrick.train.alignment",
    "mixture": "carrick.train.mixture",
    "simultaneous": "carrick.train.simultaneous",
}
"""Each method's module: `check(job)` refuses what cannot be done, `run(job)` trains and writes the result."""


@dataclass(frozen=True)
class TrainReport:
    """What a training made.

    Attributes
    ----------
    out
        The folder of the adapter or model.
    record
        The content of its training.json; of a dry run what would be trained.
    notes
        Remarks.
    dry_run
        Nothing was trained.
    """

    out: Path
    record: dict[str, Any]
    notes: tuple[str, ...] = field(default=())
    dry_run: bool = False


def train(
    recipe: str | Path | Mapping[str, Any],
    out: str | Path,
    *,
    device: str = "auto",
    resume: bool = True,
    force: bool = False,
    dry_run: bool = False,
    progress: bool = True,
) -> TrainReport:
    """Train what a recipe says.

    Killed midway, the same call again continues from the newest checkpoint and ends with the same weights as an
    uninterrupted one.

    Parameters
    ----------
    recipe
        Path of a YAML file, whose folder the paths in it are relative to, or its content as a mapping.
    out
        Folder of the adapter or model, made by one rename at the end.
    device
        `cpu`, `cuda`, or `auto`: a GPU where torch sees one.
    resume
        Whether checkpoints of an earlier, interrupted run of the same recipe are gone on from.
    force
        Replace a model or adapter that is already at ``out``.
    dry_run
        Read and check everything and count rows, tokens and steps; train nothing.
    progress
        Whether a bar with the loss and the time left is drawn on stderr.

    Returns
    -------
    TrainReport

    Raises
    ------
    ConfigError, PlanError, FormatError
        The recipe cannot be carried out; said before any training starts.

    Examples
    --------
    >>> report = train("en.yml", "adapters/en", device="cpu")          # doctest: +SKIP
    >>> report.record["wall_seconds"], report.record["best_step"]      # doctest: +SKIP
    (1804.2, 1250)
    """
    require("`carrick train`", "train", "torch", "transformers", "peft", "trl", "datasets", "accelerate")
    from carrick.quiet import quiet_libraries  # noqa: PLC0415
    from carrick.train.lengths import check_positions, leave_out_cut  # noqa: PLC0415
    from carrick.train.plan import check_snapshots, plan  # noqa: PLC0415
    from carrick.train.prepare import prepare  # noqa: PLC0415
    from carrick.train.recipe import load_recipe  # noqa: PLC0415

    target = absolute(out)
    check_replaceable(target, force=force)
    written, folder = load_recipe(recipe)
    located = written.located(folder)
    check_named_inputs(target, located.inputs)
    with quiet_libraries():
        job = prepare(located, target, device, progress=progress)
        method = import_module(METHODS[written.method])
        method.check(job)
        job = leave_out_cut(job)
        check_positions(job)
        check_snapshots(job)
        if dry_run:
            return TrainReport(target, plan(job), job.notes, dry_run=True)
        return _in_partial_folder(job, method, target, force=force, resume=resume)


def _in_partial_folder(job: Job, method: Any, target: Path, *, force: bool, resume: bool) -> TrainReport:
    from carrick.train.processes import Processes  # noqa: PLC0415
    from carrick.train.resuming import TrainingFolder  # noqa: PLC0415

    processes = Processes(job.device)
    if not processes.is_main:
        return _beside(job, method, processes, target)
    with TrainingFolder(target) as partial:
        partial.claim(job, resume=resume)
        processes.meet()
        content, notes = _train(replace(job, folder=partial.path), method)
        _write(partial.path, content)
        partial.prepare_commit({entry.name for entry in partial.path.iterdir()} - partial.own_files)
        _core.commit(str(partial.path), str(target), [], force)
    processes.meet()
    return TrainReport(target, content, (*job.notes, *notes))


def _beside(job: Job, method: Any, processes: Any, target: Path) -> TrainReport:
    """Take part in a training of several processes; the main one writes what comes out."""
    from carrick.train.resuming import TrainingFolder  # noqa: PLC0415

    processes.meet()
    shared = TrainingFolder(target).path
    with tempfile.TemporaryDirectory(prefix="carrick-train-") as scratch:
        quiet = replace(job, folder=Path(scratch), work=shared / CHECKPOINTS, progress=False)
        content, notes = _train(quiet, method)
    processes.meet()
    return TrainReport(target, content, notes)


def _train(job: Job, method: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    from carrick.train.search import search  # noqa: PLC0415

    if job.recipe.search is not None:
        return search(job, lambda point: _one(point, method))
    return _one(job, method)


def _one(job: Job, method: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Train once into the job's folder and describe it."""
    from carrick.train.record import notes_of, record  # noqa: PLC0415

    outcome: Outcome = method.run(job)
    return record(job, outcome), (*notes_of(outcome.fitted), *outcome.notes)


def _write(folder: Path, content: dict[str, Any]) -> None:
    from carrick.train.record import NAME  # noqa: PLC0415

    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / NAME).write_text(text + "\n", encoding="utf-8")
