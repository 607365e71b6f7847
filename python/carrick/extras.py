"""Optional dependencies, asked for before any work starts."""

from __future__ import annotations

from importlib.util import find_spec

from carrick.errors import CarrickError


def require(what: str, extra: str, *modules: str) -> None:
    """Raise when a module that only an extra installs is missing.

    Parameters
    ----------
    what
        What needs it, as the message's subject, such as ``carrick train``.
    extra
        Name of the extra that installs it.
    modules
        Names of the modules as they are imported.

    Raises
    ------
    CarrickError
        One sentence with what is missing and how to install it.

    Examples
    --------
    >>> require("`carrick train`", "train", "json")
    >>> require("`carrick train`", "train", "json", "no_such_module")
    Traceback (most recent call last):
    carrick._core.CarrickError: `carrick train` needs no_such_module, which is not installed: \
pip install 'carrick[train]'
    """
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        are = "is" if len(missing) == 1 else "are"
        raise CarrickError(
            f"{what} needs {', '.join(missing)}, which {are} not installed: pip install 'carrick[{extra}]'"
        )
