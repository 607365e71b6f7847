"""Whether the output may go where the user wants it: not over an input, and the disk has room."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.checkpoints.find import existing_path
from carrick.errors import FormatError, PlanError
from carrick.held_folder import intermediates_folder, partial_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from carrick.plan.job import Plan

# Headers, index, config.json, tokenizer, journal.
_BESIDE_WEIGHTS = 32 * 10**6


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
    folders, files = list(folders), list(files)
    for place in (out, partial_folder(out)):  # what stands in either goes
        _check_place(place, folders, files)


def check_named_inputs(out: Path, refs: Iterable[str]) -> None:
    """Refuse an output folder that would take away what a request names as an input.

    Parameters
    ----------
    out
        The folder to be made or replaced.
    refs
        Folders, files and Hub ids, as they were written; what is not on disk by that name is passed over.

    Raises
    ------
    PlanError
        Names the input.
    """
    check_output(out, [], places_of(refs))


def check_trained_on(out: Path, ref: str, name: str | None) -> None:
    """Refuse to replace the base that an adapter names; a merge does not read it, but who uses the result does.

    Parameters
    ----------
    out
        The folder to be made or replaced.
    ref
        What the user calls the adapter.
    name
        Its `base_model_name_or_path`.

    Raises
    ------
    PlanError
        Names the adapter and its base.
    """
    for base in places_of([name] if name else []):
        is_empty = base.is_dir() and not any(base.iterdir())
        if would_take(out, base) and not is_empty:
            raise PlanError(
                f"{out}: the base of {ref} lies there (`base_model_name_or_path` is {name}) and would be replaced; "
                "choose another folder"
            )


def places_of(refs: Iterable[str]) -> list[Path]:
    """Return those of the references at which something lies; Hub ids and mistakes are none of them."""
    found = []
    for ref in refs:
        try:
            place = existing_path(ref)
        except FormatError:  # what is wrong with it is said where it is read
            continue
        if place is not None:
            found.append(place)
    return found


def _check_place(out: Path, folders: Iterable[Path], files: Iterable[Path]) -> None:
    target = out.resolve()
    for folder in folders:
        source = folder.resolve()
        if target == source:
            raise PlanError(f"{out}: is the input {folder} as well; choose another output folder")
        if source in target.parents:
            raise PlanError(f"{out}: lies in the input folder {folder}; choose a folder outside it")
    for path in files:
        if target in {path.absolute(), path.resolve()}:
            raise PlanError(f"{out}: is the input {path} as well; choose another place")
        if would_take(out, path):
            raise PlanError(
                f"{out}: the input {path} lies in it and would be replaced; choose another folder"
            )


def would_take(out: Path, path: Path) -> bool:
    """Say whether a file or folder goes when something else takes the place of an output."""
    target = out.resolve()
    # The name in the folder and the file it links to: replacing either's folder would take it away.
    return any(target == place or target in place.parents for place in (path.absolute(), path.resolve()))


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
    """Bytes that the output may take: free ones, and those of an interrupted run's folders."""
    free = shutil.disk_usage(existing_parent(out)).free
    left = [path for folder in (partial_folder(out), intermediates_folder(out)) for path in folder.rglob("*")]
    return free + sum(path.stat().st_blocks * 512 for path in left if path.is_file())


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
    _check_models(out, plan.meta.get("models", []), plan)
    check_room(out, plan.bytes_written)


def check_apart(folder: Path, plan: Plan) -> None:
    """Refuse a folder that a series of merges writes or deletes, where it is or holds an input of one of them.

    Raises
    ------
    PlanError
        Names the input.
    """
    models = [model for model in plan.meta["models"] if not model.get("intermediate")]
    _check_models(folder, models, plan)


def _check_models(out: Path, models: Collection[Mapping[str, Any]], plan: Plan) -> None:
    check_output(out, *_inputs(models, plan))
    for adapter in (each for model in models for each in model.get("adapters", [])):
        check_trained_on(out, adapter["ref"], adapter.get("base"))


def _inputs(models: Iterable[Mapping[str, Any]], plan: Plan) -> tuple[list[Path], list[Path]]:
    """Folders and files that a merge of some of a plan's models reads, and those of its tokenizer."""
    folders: list[Path] = []
    files: list[Path] = []
    for model in models:
        files += [Path(plan.files[number].path) for number in model["files"]]
        folders += [Path(model["folder"])] if model.get("is_folder") else []
        adapters = model.get("adapters", [])
        folders += [Path(adapter["folder"]) for adapter in adapters]
    tokenizer = plan.meta.get("tokenizer", {})
    folders += [Path(tokenizer["folder"])] if tokenizer.get("is_folder") else []
    files += [Path(path) for path in tokenizer.get("files", [])]
    return folders, files
