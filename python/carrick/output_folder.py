"""Whether an output folder may be written, and what ``--force`` may replace."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from carrick.errors import PlanError

_SIGNS_OF_A_MODEL = ("config.json", "carrick.json", "*.safetensors")


def put_in_place(made: Path, place: Path) -> None:
    """Rename a finished folder to its place; what stands there goes, of a link the link alone."""
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)
    made.rename(place)


def check_replaceable(out: Path, *, force: bool) -> None:
    """Refuse an output that exists, unless it is empty, or a model that ``force`` allows to replace.

    Raises
    ------
    PlanError
        The output is a file, a folder with other content than a model, or a model without ``force``.
    """
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
