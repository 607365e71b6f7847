"""Paths as a user writes them: `~` is the home folder."""

from __future__ import annotations

import os
from pathlib import Path

from carrick.errors import ConfigError


def expanded(path: str | os.PathLike[str]) -> Path:
    """Put the home folder in the place of a leading `~` or `~user`.

    Raises
    ------
    ConfigError
        There is no such user.

    Examples
    --------
    >>> expanded("models/~/merged").as_posix()
    'models/~/merged'
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        name = Path(path).parts[0]
        raise ConfigError(
            f"{path}: `{name}` is the home folder of a user who is not known here; write the path in full, or "
            f"`./{path}` for a folder of that name"
        ) from None


def absolute(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of an output; a link there is not followed."""
    return Path(os.path.abspath(expanded(path)))  # noqa: PTH100  (resolve() would follow a link at the path)
