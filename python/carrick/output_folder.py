"""Whether an output folder may be written, and what ``--force`` may replace."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from carrick.errors import PlanError
from carrick.held_folder import intermediates_folder

_LONGEST_NAME = 255  # bytes, on every file system in use
_SIGNS_OF_A_MODEL = ("config.json", "carrick.json", "*.safetensors")


def put_in_place(made: Path, place: Path) -> None:
    """Rename a finished folder to its place; what stands there goes, of a link the link alone."""
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    made.rename(place)


def check_can_be_made(out: Path, *, parent: Path | None = None) -> None:
    """Refuse an output that there is no place for, before any work is done for it.

    Parameters
    ----------
    out
        What is to be written, absolute.
    parent
        The folder that it is made in; by default the one that it lies in, since a run works beside its output.

    Raises
    ------
    PlanError
        A file stands where a folder would have to, nothing may be written there, or a name is too long.
    """
    if not out.name:
        raise PlanError(f"{out} is the root of a disk, and no folder to write; choose another place")
    around = out.parent if parent is None else parent
    names = [*around.parts, intermediates_folder(out).name]
    while not os.path.lexists(around) and around != around.parent:
        around = around.parent
    if not around.is_dir():
        raise PlanError(f"{out}: {around} is no folder, so nothing can be made in it; choose another place")
    if not os.access(around, os.W_OK | os.X_OK):
        raise PlanError(
            f"{out}: nothing may be written in {around}; choose another place, or change its permissions"
        )
    longest = max(names, key=lambda name: len(os.fsencode(name)))
    if len(os.fsencode(longest)) > _LONGEST_NAME:
        raise PlanError(f"{out}: a name in it is too long for a folder; choose a shorter one")


def check_replaceable(out: Path, *, force: bool) -> None:
    """Refuse an output that cannot be made, or that exists and is neither empty nor a model that ``force`` gives up.

    Raises
    ------
    PlanError
        The output is a file, a folder with other content than a model, or a model without ``force``; or there is
        no place for it.
    """
    check_can_be_made(out)
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise PlanError(f"{out} is a file; give a folder that does not exist yet")
    if not out.is_symlink() and next(out.iterdir(), None) is None:
        return
    if not force:
        raise PlanError(f"{out} exists already; choose another folder, or replace it with --force")
    if any(folder in {Path.cwd(), Path.home()} for folder in (out, out.resolve())):
        raise PlanError(
            f"{out} is the working or home folder, which is never replaced; choose another folder"
        )
    if not any(next(out.glob(sign), None) for sign in _SIGNS_OF_A_MODEL):
        raise PlanError(
            f"{out} holds no model, so --force does not replace it; remove it yourself if you mean it"
        )


def must_be_forced(out: Path) -> bool:
    """Say whether only ``force`` makes room for an output.

    Raises
    ------
    PlanError
        Not even ``force`` does.
    """
    check_replaceable(out, force=True)
    try:
        check_replaceable(out, force=False)
    except PlanError:
        return True
    return False
