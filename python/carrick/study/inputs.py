"""Places of a training recipe's inputs inside a study: ``@stage/path`` and ``@file:name`` become paths.

Parameters of a stage hold no paths, or its key would depend on where the study lies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carrick.study.stage import Running


def placed(value: Any, running: Running) -> Any:
    """Return plain data with every ``@stage/path`` and ``@file:name/path`` in it turned into a path.

    Parameters
    ----------
    value
        Mappings, lists and plain values, nested.
    running
        The stage that runs, with the folders of what it needs.

    Raises
    ------
    CarrickError
        A stage or a file that this stage does not have.

    Examples
    --------
    >>> from pathlib import Path
    >>> from carrick.study.stage import Finished, Running
    >>> running = Running("fit", {}, {"base": Finished("base", Path("/o/base"))}, {"data": Path("/d")}, Path("."))
    >>> placed({"base": "@base/model", "files": ["@file:data/en.txt"], "steps": 3}, running)
    {'base': '/o/base/model', 'files': ['/d/en.txt'], 'steps': 3}
    """
    if isinstance(value, str) and value.startswith("@"):
        return str(_place(value[1:], running))
    if isinstance(value, dict):
        return {key: placed(inner, running) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [placed(inner, running) for inner in value]
    return value


def _place(text: str, running: Running) -> Path:
    name, _, path = text.partition("/")
    folders: Mapping[str, Path] = {stage: done.folder for stage, done in running.needs.items()}
    if name.startswith("file:"):
        name, folders = name.removeprefix("file:"), running.files
    if name not in folders:
        raise CarrickError(f"stage {running.name}: `@{text}` is none of its inputs ({', '.join(folders)})")
    return folders[name] / path if path else folders[name]
