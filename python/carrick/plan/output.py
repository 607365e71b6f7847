"""Whether the output may go where the user wants it: not over an input, and the disk has room."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from carrick.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carrick.plan.job import Plan

PARTIAL_SUFFIX = ".carrick-partial"
# Headers, index, config.json, tokenizer, journal.
_BESIDE_WEIGHTS = 32 * 10**6


def partial_folder(out: Path) -> Path:
    """Where an unfinished output lies, beside the finished one.

    >>> partial_folder(Path("models/merged")).as_posix()
    'models/merged.carrick-partial'
    """
    return out.with_name(out.name + PARTIAL_SUFFIX)


def check_output(out: Path, folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Refuse an output folder that is an input, lies in one, or has one in it.

    Parameters
    ----------
    out
        The folder to be made or replaced.
    folders
        Input folders given as folders.
    files
        Input files.

    Raises
    ------
    PlanError
        Names the input.
    """
    target = out.resolve()
    for folder in folders:
        source = folder.resolve()
        if target == source:
            raise PlanError(f"{out}: is the input {folder} as well; choose another output folder")
        if source in target.parents:
            raise PlanError(f"{out}: lies in the input folder {folder}; choose a folder outside it")
    for path in files:
        # The name in the folder and the file it links to: replacing either's folder would take the input
        # away.
        for source in (path.absolute(), path.resolve()):
            if target == source or target in source.parents:
                raise PlanError(
                    f"{out}: the input {path} lies in it and would be replaced; choose another folder"
                )


def check_room(out: Path, nbytes: int) -> None:
    """Refuse a merge for which the disk has no room; what an interrupted run left behind counts as room.

    Raises
    ------
    PlanError
        Says how much is needed and how much is free.
    """
    free = free_bytes(out)
    needed = nbytes + _BESIDE_WEIGHTS
    if needed > free:
        raise PlanError(
            f"{existing_parent(out)}: {needed / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free; "
            "free some space or choose an output folder on another disk"
        )


def free_bytes(out: Path) -> int:
    """Bytes that the output may take: free ones, and those of an interrupted run's folder."""
    free = shutil.disk_usage(existing_parent(out)).free
    partial = partial_folder(out)
    if partial.is_dir():
        free += sum(p.stat().st_blocks * 512 for p in partial.iterdir() if p.is_file())
    return free


def existing_parent(path: Path) -> Path:
    """Find the nearest folder around a path that exists."""
    parent = path.absolute().parent
    while not parent.is_dir() and parent != parent.parent:
        parent = parent.parent
    return parent


def check_output_of_plan(plan: Plan, out: Path) -> None:
    """Make all checks of an output folder for a plan, a saved one as well.

    Raises
    ------
    PlanError
        The folder is or holds an input, or the disk has no room.
    """
    models = plan.meta.get("models", [])
    folders = [Path(m["folder"]) for m in models if m.get("is_folder")]
    folders += [Path(adapter["folder"]) for m in models for adapter in m.get("adapters", [])]
    check_output(out, folders, [Path(record.path) for record in plan.files])
    check_room(out, plan.bytes_written)
