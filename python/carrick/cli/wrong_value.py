"""Values that an option cannot have, in our own words: those of the parser name neither them nor the nearest one."""

from __future__ import annotations

import re
from typing import Any

# "Value error, 'mmmap' is not one of 'auto', 'pread', 'mmap'." or "'two' is not a valid integer."
_QUOTED = re.compile(r"'(?P<value>.*?)' is not ")


def wrong_value(error: Any) -> str | None:
    """Say which value an option was given and what it takes; None for any other usage error.

    Parameters
    ----------
    error
        What typer raised. Since 0.29 pydantic reads the values, and stands as the cause; before, click did.
    """
    value = _value(error)
    options = getattr(getattr(error, "param", None), "opts", None)
    if value is None or not options:
        return None
    subject = f"{max(options, key=len)} is `{value}`"
    choices = re.findall(r"'([^']*)'", error.message.partition(" is not one of ")[2])
    if choices:
        from carrick.suggestions import nearest  # noqa: PLC0415  (wanted for mistakes alone)

        # `gpu` is no misspelt `cpu`, and all choices are listed.
        return f"{subject}: it is one of {', '.join(choices)}{nearest(value, choices, cutoff=0.7)}"
    if "integer" in error.message:
        return f"{subject}: give a whole number"
    return f"{subject}: give a number" if re.search(r"number|float", error.message) else None


def _value(error: Any) -> str | None:
    found = getattr(error.__cause__, "errors", None)
    if found is not None:
        return str(found()[0]["input"])
    quoted = _QUOTED.search(getattr(error, "message", ""))
    return None if quoted is None else quoted["value"]
