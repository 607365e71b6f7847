"""Rows of files, for training and for evaluation: what stands in them as text."""

from __future__ import annotations

import re

from carrick.finite import is_finite

# What Python's parser of JSON gives up at, which is no row that anybody means.
BEYOND = "the JSON here nests too deeply or holds a number of thousands of digits; correct it"
_SURROGATE = re.compile("[\ud800-\udfff]")


def as_row_text(value: object) -> str:
    """Return a value as text, which it is or, being a number, becomes.

    Raises
    ------
    ValueError
        It is anything else, or holds half of a character; the message goes on from the name of its column.

    Examples
    --------
    >>> as_row_text(3)
    '3'
    >>> as_row_text(None)
    Traceback (most recent call last):
    ValueError: is missing; it has to be text
    """
    if is_finite(value):
        return str(value)
    if not isinstance(value, str):
        shown = (
            "missing" if value is None else value if isinstance(value, float) else f"a {type(value).__name__}"
        )
        raise ValueError(f"is {shown}; it has to be text")
    if not value.isascii() and _SURROGATE.search(value):
        raise ValueError("holds half of a surrogate pair, which is no character; remove it")
    return value
