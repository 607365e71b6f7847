"""The folder that an evaluation leaves: written beside its place, and put there by one rename."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from carrick import _core
from carrick.errors import ConfigError
from carrick.home import absolute
from carrick.output_folder import check_can_be_made
from carrick.partial import LOCK, PartialFolder

if TYPE_CHECKING:
    from carrick.evaluate.report import EvaluationReport

RESULTS, SAMPLES, CHART = "results.json", "samples", ".png"
UNDRAWN = "charts were not drawn, for matplotlib is not installed: pip install 'carrick[plot]'"


def check_out(out: str | Path, *, force: bool) -> Path:
    """Check that results may be written to a folder.

    Returns
    -------
    Path
        The folder, absolute; a link there is not followed.

    Raises
    ------
    ConfigError
        It is a file, holds results and `force` is not given, or holds something else.
    PlanError
        There is no place for it.
    """
    path = absolute(out)
    check_can_be_made(path)
    if not os.path.lexists(path):
        return path
    if not path.is_dir():
        raise ConfigError(f"{out} is a file; give a folder")
    held = sorted(entry.name for entry in path.iterdir())
    if not held and not path.is_symlink():
        return path
    # The whole folder is replaced, so nothing may be in it that no evaluation wrote.
    others = [name for name in held if name not in {RESULTS, SAMPLES} and not name.endswith(CHART)]
    if others or (held and RESULTS not in held):
        raise ConfigError(
            f"{out} holds something else than results ({(others or held)[0]}); choose another folder"
        )
    if not force:
        what = "holds results already" if held else "is a link"
        raise ConfigError(f"{out} {what}; choose another folder, or replace it with --force")
    if any(folder in {Path.cwd(), Path.home()} for folder in (path, path.resolve())):
        raise ConfigError(
            f"{out} is the working or home folder, which is never replaced; choose another folder"
        )
    return path


def has_charts() -> bool:
    """Whether charts can be drawn."""
    return find_spec("matplotlib") is not None


def write(report: EvaluationReport, out: str | Path, *, force: bool = False) -> Path:
    """Write ``results.json``, the answers as JSON lines, and a chart of each task where matplotlib is there.

    All of it is in the folder, or nothing: it is written to ``OUT.carrick-partial``, which takes the folder's place.

    Parameters
    ----------
    report
        What to write.
    out
        The folder.
    force
        Replace results that are there, with all their files.

    Raises
    ------
    ConfigError
        As `check_out`.
    PlanError
        As `check_out`, or another run is writing there.
    """
    folder = check_out(out, force=force)
    with PartialFolder(folder) as partial:
        partial.prepare_commit({LOCK})  # what a killed run left
        _write_files(report, partial.path)
        partial.prepare_commit({entry.name for entry in partial.path.iterdir()} - {LOCK})
        _core.commit(str(partial.path), str(folder), [], force)
    return folder


def _write_files(report: EvaluationReport, folder: Path) -> None:
    (folder / SAMPLES).mkdir()
    for result in report.results:
        lines = (json.dumps(sample, ensure_ascii=False) for sample in result.samples)
        path = folder / SAMPLES / f"{result.task}_{result.language}.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    text = json.dumps(report.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / RESULTS).write_text(f"{text}\n", "utf-8")
    if has_charts():
        from carrick.evaluate.plots import bars  # noqa: PLC0415

        for task in report.tasks:
            bars({report.model: report}, task, folder / f"{task}{CHART}")
