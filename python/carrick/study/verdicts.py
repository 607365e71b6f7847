"""What intervals say to a claim that one way is better than another, by one rule for all studies of pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.report import Verdict

RULE = (
    "A claim that one way is better than another **repeats** where the 95 % interval of the difference (paired "
    "bootstrap over the test rows) lies wholly on its side, **does not repeat** where it lies wholly on the other, "
    "and is **within the noise** otherwise. A claim over several comparisons repeats if all of them do, **repeats in "
    "part** if some do and the others are within the noise, is **mixed** if some point clearly one way and some the "
    "other, does not repeat if none does and some point clearly the other way, and is within the noise if none is "
    "clear. The intervals say nothing of other trainings: with one seed a difference may be that seed's. What follows "
    "from the recipe's arithmetic, whatever the models learn, is marked **by construction** and confirms nothing."
)


def verdict(interval: Mapping[str, float], *, lower_is_better: bool = False) -> Verdict:
    """Return what one difference (second less first) says to the claim that the second is better.

    Parameters
    ----------
    interval
        Ends of the interval, ``low`` and ``high``.
    lower_is_better
        Whether the difference is of losses.

    Examples
    --------
    >>> verdict({"low": 0.1, "high": 0.2}), verdict({"low": 0.1, "high": 0.2}, lower_is_better=True)
    ('repeats', 'does not repeat')
    >>> verdict({"low": -0.1, "high": 0.1})
    'within the noise'
    """
    low, high = interval["low"], interval["high"]
    if lower_is_better:
        low, high = -high, -low
    if low > 0:
        return "repeats"
    return "does not repeat" if high < 0 else "within the noise"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Return the verdict of a claim over several comparisons.

    >>> together(["repeats", "repeats"]), together(["repeats", "within the noise"])
    ('repeats', 'repeats in part')
    >>> together(["repeats", "does not repeat"]), together([])
    ('mixed', 'not tested')
    """
    if not verdicts:
        return "not tested"
    if all(one == "repeats" for one in verdicts):
        return "repeats"
    some, opposed = "repeats" in verdicts, "does not repeat" in verdicts
    if some:
        return "mixed" if opposed else "repeats in part"
    return "does not repeat" if opposed else "within the noise"
