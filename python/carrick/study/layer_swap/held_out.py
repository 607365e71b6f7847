"""Whether a training text holds a test problem: the proof that tests are kept out."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_WORDS = re.compile(r"[\W_]+")
_OPENING = 40


def normalised(text: str) -> str:
    r"""Return the words of a text in small letters, a single space between them.

    >>> normalised("Wie viele  Äpfel?\nDrei!")
    'wie viele äpfel drei'
    """
    return _NOT_WORDS.sub(" ", text.casefold()).strip()


class HeldOut:
    """Test problems that are looked for in training texts, whatever their case, spaces and punctuation.

    Parameters
    ----------
    problems
        The test problems. A problem counts as found when all of its words stand in the text in their order.

    Examples
    --------
    >>> tests = HeldOut(["A robe takes 2 bolts of blue fiber."])
    >>> tests.found(["It says: a robe takes 2 bolts, of blue fiber!", "A robe takes 3 bolts of blue fiber."])
    [0]
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self._by_opening: dict[str, list[str]] = defaultdict(list)
        self._short: set[str] = set()
        for problem in problems:
            words = normalised(problem)
            if len(words) >= _OPENING:
                self._by_opening[words[:_OPENING]].append(words)
            elif words:
                self._short.add(words)

    def __len__(self) -> int:
        return sum(len(same) for same in self._by_opening.values()) + len(self._short)

    def found(self, texts: Iterable[str]) -> list[int]:
        """Return the numbers of the texts that hold a test problem."""
        return [number for number, text in enumerate(texts) if self._holds(normalised(text))]

    def _holds(self, text: str) -> bool:
        if any(problem in text for problem in self._short):
            return True
        openings = self._by_opening
        for start in range(len(text) - _OPENING + 1):
            opening = text[start : start + _OPENING]
            if opening in openings and any(text.startswith(whole, start) for whole in openings[opening]):
                return True
        return False
