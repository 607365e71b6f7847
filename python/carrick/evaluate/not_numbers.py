"""Remarks about models whose likelihoods are no numbers, as those of a merge or training that went wrong."""

from __future__ import annotations


def not_numbers(name: str, rows: int, of: int) -> list[str]:
    """Return the remark that so many rows have no answer, or none.

    Parameters
    ----------
    name
        Task and language.
    rows
        How many rows the model gave NaN for.
    of
        How many there are.

    Examples
    --------
    >>> not_numbers("xcopa_it", 0, 100)
    []
    """
    if not rows:
        return []
    return [
        f"{name}: for {rows} of {of} rows the model gives no numbers (NaN), so that its scores mean nothing; look for "
        "NaN or infinite values in its weights and adapters"
    ]
