"""The number of threads that a caller asks for."""

from __future__ import annotations

from carrick.errors import ConfigError


def check_threads(threads: int | None) -> None:
    """Refuse a number of threads that cannot work; None leaves it to the engine.

    Raises
    ------
    ConfigError
        Fewer than one.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads is {threads}: it must be at least 1")
