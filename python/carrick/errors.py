"""The exceptions that Carrick raises on purpose.

Everything that a request can get wrong is a `CarrickError`; trouble of the operating system (a full disk, a
missing permission) stays an `OSError`.
"""

from carrick._core import CarrickError, FormatError, PlanError

__all__ = ["BusyError", "CarrickError", "ConfigError", "FormatError", "PlanError"]


class BusyError(PlanError):
    """Another run is writing where this one would: what lies there is not this run's to tidy up."""


class ConfigError(CarrickError):
    """A configuration that cannot be carried out.

    Parameters
    ----------
    message
        One sentence: what is wrong, and what would be right.
    file
        The file that says so; None for a configuration given as Python objects.
    line, column
        Where in the file, both counted from 1.
    key
        The path of the value, such as ``models[0].parameters.density``.

    Examples
    --------
    >>> str(ConfigError("`density` is 1.5; it lies between 0 and 1", file="config.yml", line=12))
    'config.yml:12: `density` is 1.5; it lies between 0 and 1'
    >>> str(ConfigError("`density` is 1.5; it lies between 0 and 1", key="parameters.density"))
    'parameters.density: `density` is 1.5; it lies between 0 and 1'
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        key: str | None = None,
    ) -> None:
        place = key if file is None else file if line is None else f"{file}:{line}"
        super().__init__(f"{place}: {message}" if place else message)
        self.message = message
        self.file = file
        self.line = line
        self.column = column
        self.key = key
