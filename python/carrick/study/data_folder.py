"""The folder with a study's data sets: whether everything that its stages read is there, before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from carrick.study.stage import Stage


def check_inputs(name: str, stages: Sequence[Stage], data: Path, out: Path) -> None:
    """Refuse a study that reads what is not there, or that would be written among its data.

    Parameters
    ----------
    name
        The study.
    stages
        What it does.
    data, out
        The folders of its data sets and of the study, absolute.

    Raises
    ------
    ConfigError
        Says what is missing, and what is expected where.
    """
    if out.resolve() == data.resolve():
        raise ConfigError(
            f"{out}: holds the data that the study reads; name another folder for it (--out DIR)"
        )
    files = {path: each for stage in stages for each, path in stage.files.items()}
    missing = next((path for path in files if not path.exists()), None)
    if missing is None:
        return
    if missing.is_relative_to(data):
        raise ConfigError(
            f"{missing}: no such file or folder; `{name}` reads {_listed(files, data)} in the folder that --data names"
        )
    raise ConfigError(
        f"{missing}: `{name}` reads it as its {files[missing]}, and it is not there; fetch it with `hf download`, "
        "or name another in a recipe (--recipe FILE)"
    )


def _listed(files: Iterable[Path], data: Path) -> str:
    """Name the folders of the data sets, each with what lies in it."""
    names = dict.fromkeys(path.relative_to(data).parts[0] for path in files if path.is_relative_to(data))
    return ", ".join(f"{name}/" for name in sorted(names))
