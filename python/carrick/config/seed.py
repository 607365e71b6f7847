"""The key of everything random in a merge."""

from __future__ import annotations

from carrick.errors import ConfigError

MAX_SEED = 2**64 - 1


def check_seed(seed: int | None) -> None:
    """Refuse a seed that no generator takes; None is that of the configuration.

    Raises
    ------
    ConfigError
        It is negative or has more than 64 bits.

    Examples
    --------
    >>> check_seed(-1)
    Traceback (most recent call last):
    carrick.errors.ConfigError: seed is -1: it must be a whole number from 0 to 2**64 - 1
    """
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"seed is {seed}: it must be a whole number from 0 to 2**64 - 1")
