"""How the reports call the rows of the study."""

from __future__ import annotations

_LABELS = {
    "zero_shot": "no adapter (zero-shot)",
    "task_adapter": "task adapter (en) alone",
    "single": "single-language adapter",
    "mixed": "mixed sample",
    "sum_average": "simple sum, average",
    "sum_addition": "simple sum, addition",
    "ties": "TIES",
    "dare": "DARE",
    "cat/softmax": "CAT, softmax",
    "cat/free": "CAT, free",
    "mlm": "MLM",
    "merge": "MLM, not aligned",
}


def label(family: str) -> str:
    """Return what a row is called in tables and plots.

    >>> label("cat/free"), label("mlm/zero/0.5"), label("merge/*/1")
    ('CAT, free', 'MLM zero λ=.5', 'MLM, not aligned λ=1')
    """
    if family in _LABELS:
        return _LABELS[family]
    way, *details = family.split("/")
    kind, weight = details
    text = _LABELS[way] if kind == "*" else f"{_LABELS[way]} {kind}"
    return text if weight == "*" else f"{text} λ={weight.lstrip('0')}"
