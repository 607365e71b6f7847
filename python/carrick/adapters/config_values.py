"""Values of adapter_config.json with their types checked; null means the default, as in PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from carrick.errors import FormatError
from carrick.finite import is_finite

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Values:
    """Reads one value after the other and says which one is wrong."""

    def __init__(self, raw: dict[str, Any], source: str) -> None:
        self.raw = raw
        self.source = source

    def required(self, key: str) -> Any:
        """Return a value that must be there."""
        if self.raw.get(key) is None:
            raise FormatError(
                f"{self.source}: `{key}` is missing, without which the scale of the adapter is not known; "
                "restore the file, or set it to the value that was trained with"
            )
        return self.raw[key]

    def flag(self, key: str) -> bool:
        """Return true or false; false where nothing is said."""
        value = self.raw.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return bool(value)

    def choice(self, key: str, known: tuple[str, ...]) -> str:
        """Return one of some words; the first where nothing is said."""
        value = self.raw.get(key)
        if value is not None and value not in known:
            raise self._wrong(key, value, " or ".join(f'"{word}"' for word in known))
        return value or known[0]

    def text(self, key: str) -> str | None:
        """Return a string or None."""
        value = self.raw.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, value, "a string or null")
        return value

    def positive(self, key: str, value: Any) -> int:
        """Check a whole number of at least 1."""
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self._wrong(key, value, "a whole number of at least 1")
        return value

    def number(self, key: str, value: Any) -> float:
        """Check a finite number."""
        if not is_finite(value):
            raise self._wrong(key, value, "a finite number")
        return value

    def mapping(self, key: str, check: Callable[[str, Any], T]) -> dict[str, T]:
        """Return a JSON object whose values all pass a check."""
        value = self.raw.get(key) or {}
        if not isinstance(value, dict):
            raise self._wrong(key, value, "an object of patterns and numbers")
        return {name: check(f"{key}.{name}", item) for name, item in value.items()}

    def names(self, key: str) -> tuple[str, ...]:
        """Return a list of strings; a single string counts as a list of one."""
        value = self.raw.get(key) or []
        value = [value] if isinstance(value, str) else value
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._wrong(key, value, "a list of names")
        return tuple(value)

    def indices(self, key: str) -> tuple[int, ...] | None:
        """Return a list of numbers from 0 on, or None; a single number counts as a list of one."""
        value = self.raw.get(key)
        return None if value is None else self.index_list(key, value)

    def index_list(self, key: str, value: Any) -> tuple[int, ...]:
        """Check a list of numbers from 0 on; a single number counts as a list of one."""
        value = value if isinstance(value, list) else [value]
        for item in value:
            if not isinstance(item, int) or isinstance(item, bool) or item < 0:
                raise self._wrong(key, item, "a list of whole numbers from 0 on")
        return tuple(value)

    def _wrong(self, key: str, value: Any, right: str) -> FormatError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return FormatError(f"{self.source}: `{key}` is {shown}; it must be {right}")
