"""How tasks are asked, whichever tasks they are."""

from __future__ import annotations

from dataclasses import dataclass

from carrick.errors import ConfigError


@dataclass(frozen=True)
class Settings:
    """What holds for every task of an evaluation; the parameters of `evaluate` say what each means.

    Raises
    ------
    ConfigError
        A number out of range.

    Examples
    --------
    >>> Settings(limit=0)
    Traceback (most recent call last):
    carrick.errors.ConfigError: `limit` is 0; it is at least 1
    """

    limit: int | None = None
    shots: int | None = None
    precision: str = "auto"
    batch_size: int = 8
    max_length: int | None = None
    max_new_tokens: int | None = None
    chat: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (
            ("limit", 1),
            ("shots", 0),
            ("batch_size", 1),
            ("max_length", 2),
            ("max_new_tokens", 1),
        ):
            number = getattr(self, name)
            if number is not None and number < least:
                raise ConfigError(f"`{name}` is {number}; it is at least {least}")
