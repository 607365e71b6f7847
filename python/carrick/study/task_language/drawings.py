"""Plots of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.plots import BLUE, INK, VERMILION, canvas, lines
from carrick.study.task_language.wording import label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure

_WAYS = {"mlm": "MLM", "cat": "CAT", "sum": "simple sum, TIES, DARE", "mixed": "mixed sample"}


def scores_by_row(rows: Sequence[Mapping[str, Any]], task: str, target: str) -> Figure:
    """Draw macro F1 of every row on both languages, with intervals over the test rows."""
    figure, axes = canvas(7.0, 0.9 + 0.26 * len(rows))
    for place, (side, code, colour, marker) in enumerate(
        (("task", task, BLUE, "o"), ("target", target, VERMILION, "s"))
    ):
        scores = [row["scores"][side] for row in rows]
        values = [score["macro_f1"] for score in scores]
        errors = [
            [value - score["low"] for value, score in zip(values, scores, strict=True)],
            [score["high"] - value for value, score in zip(values, scores, strict=True)],
        ]
        places = [row + 0.17 * (2 * place - 1) for row in range(len(rows))]
        axes.errorbar(
            values, places, xerr=errors, fmt=marker, color=colour, ecolor=colour, mec=INK, mew=0.4, ms=4.5,
            capsize=2, lw=1.1, label=code,
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [label(row["family"]) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("macro F1 (95 % interval over test rows)", fontsize=8.5)
    axes.grid(color="#e5e5e5", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(fontsize=8, frameon=False, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return figure


def growth(account: Mapping[str, Any]) -> Figure:
    """Draw samples seen over the number of target languages."""
    counts = account["counts"]
    series = {
        _WAYS[way]: (counts, [one["samples_seen"] / 1000 for one in totals])
        for way, totals in account["ways"].items()
    }
    return lines(series, x="target languages", y="samples seen in training (thousands)")
