"""Numbers as the report on languages writes them."""

from __future__ import annotations


def short(value: float) -> str:
    """Write a score.

    Examples
    --------
    >>> short(0.6412), short(1.0)
    ('.641', '1.000')
    """
    return f"{value:.3f}".removeprefix("0")


def signed(value: float) -> str:
    """Write a difference of scores.

    Examples
    --------
    >>> signed(0.0123), signed(-0.2), signed(0.0)
    ('+.012', '−.200', '.000')
    """
    text = f"{abs(value):.3f}".removeprefix("0")
    if text == ".000":
        return text
    return ("+" if value > 0 else "−") + text


def percent(value: float, digits: int = 0) -> str:
    """Write a share.

    Examples
    --------
    >>> percent(0.375, 1), percent(0.5)
    ('37.5 %', '50 %')
    """
    return f"{100 * value:.{digits}f} %"


def p_value(value: float) -> str:
    """Write a probability.

    Examples
    --------
    >>> p_value(0.0004), p_value(0.0312)
    ('< .001', '.031')
    """
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def tenths(value: float | None) -> str:
    """Write seconds or a quotient of them; a dash where they are not known.

    Examples
    --------
    >>> tenths(5.46), tenths(None)
    ('5.5', '–')
    """
    return "–" if value is None else f"{value:.1f}"
