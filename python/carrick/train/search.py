"""The grid over learning rate and weight decay: every point trained, the best one kept.

The MLM paper (§4) trains each single-language adapter over four learning rates and three weight decays and takes
the one with the lowest training loss at the final epoch. That rule rewards overfitting where rows repeat; the
other one here is the lowest validation loss.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError
from carrick.train.job import CHECKPOINTS
from carrick.train.processes import Processes
from carrick.train.record import priced

if TYPE_CHECKING:
    from collections.abc import Callable

    from carrick.train.job import Job

    Trained = tuple[dict[str, Any], tuple[str, ...]]

POINTS = "points"
POINT = "point.json"


def search(job: Job, train: Callable[[Job], Trained]) -> Trained:
    """Train every point of the grid, and leave the best one in the job's folder.

    Points that an interrupted run has finished are not trained again. All of them stay in `points` until the
    record of the whole is written, so that a run killed meanwhile finds them.

    Parameters
    ----------
    job
        Its recipe has a `search`.
    train
        Trains one point into the folder of the job that it is given, and returns its record and notes.

    Returns
    -------
    The record of the best point, with all points under `search`, and its notes.

    Raises
    ------
    CarrickError
        No point has a finite loss.
    """
    grid = job.recipe.search
    if grid is None:
        raise CarrickError("the recipe has no `search`")
    points = [(rate, decay) for rate in grid.learning_rate for decay in grid.weight_decay]
    trained = [
        _point(_at(job, *point, f"point {number + 1} of {len(points)}"), _name(*point), train)
        for number, point in enumerate(points)
    ]
    Processes(job.device).meet()  # the others read the points, which are deleted once the record is written
    scores = [score(record, grid.select) for record, _ in trained]
    if not any(math.isfinite(value) for value in scores):
        raise CarrickError("no point of the grid has a finite loss; try smaller learning rates")
    best = min(range(len(points)), key=lambda number: (scores[number], number))
    record, notes = trained[best]
    account = _account(job, points, [each for each, _ in trained], best)
    if job.work is None:
        unfinished = shutil.ignore_patterns(POINT, CHECKPOINTS)
        place = _folder(job, _name(*points[best]))
        shutil.copytree(place, job.folder, ignore=unfinished, copy_function=_link, dirs_exist_ok=True)
    return {**record, "search": account}, notes


def score(record: dict[str, Any], select: str) -> float:
    """Return what the point with the lowest value is chosen by; infinite where a training diverged.

    Examples
    --------
    >>> record = {"final_epoch_loss": 0.5, "validation": [[10, 0.9], [20, 0.8]], "best_step": 20}
    >>> score(record, "training_loss"), score(record, "validation"), score({"final_epoch_loss": None}, "training_loss")
    (0.5, 0.8, inf)
    """
    if select == "training_loss":
        value = record["final_epoch_loss"]
    else:
        kept = record["best_step"]
        value = next((loss for step, loss in reversed(record["validation"]) if kept in {None, step}), None)
    return math.inf if value is None else float(value)


def _at(job: Job, rate: float, decay: float, stage: str) -> Job:
    """Return the job of one point of the grid, its folder still that of all."""
    training = job.recipe.training.model_copy(update={"learning_rate": rate, "weight_decay": decay})
    recipe = job.recipe.model_copy(update={"training": training, "search": None})
    return replace(job, recipe=recipe, stage=stage)


def _name(rate: float, decay: float) -> str:
    """Name a point by its values: those of another grid are other points, wherever they stand in it."""
    return f"{rate!r}-{decay!r}"


def _point(job: Job, name: str, train: Callable[[Job], Trained]) -> Trained:
    folder = _folder(job, name)
    # Of several processes one writes; the others look where it does.
    place = folder if job.work is None else job.work.parent / POINTS / name
    finished = place / POINT
    if finished.is_file():
        content = json.loads(finished.read_text("utf-8"))
        record = content["record"]
        # The price changes no weight, and may be another one by now.
        current = {
            "recipe": job.recipe.model_dump(exclude_none=True),
            **priced(job.recipe, record["device_seconds"]),
        }
        return {**record, **current}, tuple(content["notes"])
    folder.mkdir(parents=True, exist_ok=True)
    work = None if job.work is None else place / CHECKPOINTS
    record, notes = train(replace(job, folder=folder, work=work))
    if job.work is None:
        part = folder / f"{POINT}.part"
        part.write_text(json.dumps({"record": record, "notes": notes}), encoding="utf-8")
        part.replace(finished)
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    return record, notes


def _folder(job: Job, name: str) -> Path:
    return job.folder / POINTS / name


def _link(source: str, target: str) -> None:
    """Give a file a second name: a model is not copied, and stays where it was."""
    Path(target).unlink(missing_ok=True)  # of a run that was killed, perhaps with another best point
    try:
        os.link(source, target)
    except OSError:  # a file system without links
        shutil.copyfile(source, target)


def _account(
    job: Job, points: list[tuple[float, float]], records: list[dict[str, Any]], best: int
) -> dict[str, Any]:
    grid = job.recipe.search
    seconds = sum(record["device_seconds"] for record in records)
    return {
        "select": None if grid is None else grid.select,
        "best": best,
        "points": [
            {
                "learning_rate": rate,
                "weight_decay": decay,
                "final_epoch_loss": record["final_epoch_loss"],
                "validation_loss": min(
                    (loss for _, loss in record["validation"] if loss is not None), default=None
                ),
                "device_seconds": record["device_seconds"],
            }
            for (rate, decay), record in zip(points, records, strict=True)
        ],
        "device_seconds": seconds,
        "cost": priced(job.recipe, seconds)["cost"],
    }
