"""Bars with error bars: a task's score in each language, one model or several side by side."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from carrick.errors import ConfigError
from carrick.evaluate.report import OVERALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from carrick.evaluate.report import EvaluationReport, Score

# Okabe and Ito (2008): told apart whatever the eyes, in this order in grey print too.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
_HATCHES = ("", "//", "\\\\", "..", "xx", "--", "oo", "++")
_INK = "#1a1a1a"
_NAMES = {
    "accuracy": "accuracy",
    "bertscore": "BERTScore F1",
    "exact_match": "exact match",
    "flexible_match": "last number is right",
    "hallucination": "aggregated hallucination rate",
    "hallucination_exact": "aggregated hallucination rate, exact",
    "macro_f1": "macro F1",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "outside": "answers outside the label set",
    "perplexity": "perplexity",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
}
_LOWER_IS_BETTER = frozenset(
    {"hallucination", "hallucination_exact", "nll_per_token", "outside", "perplexity"}
)


def bars(
    reports: Mapping[str, EvaluationReport], task: str, path: str | Path, *, metric: str | None = None
) -> None:
    """Draw a task's scores as bars with error bars of ± one standard error.

    Parameters
    ----------
    reports
        Evaluations by the name that the legend gives them; at most eight.
    task
        Which task; every report must have it in the same languages.
    path
        A .png or .svg file, which is replaced.
    metric
        Which score; None takes the one that stands for the task.

    Raises
    ------
    ConfigError
        No matplotlib, another format, no such task or score, languages that differ, or too many reports.
    """
    target = Path(path)
    if target.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"{path}: a chart is a .png or a .svg file; name one")
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "a chart is drawn with matplotlib, which is not installed: pip install 'carrick[plot]'"
        )
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    with mpl.rc_context({"svg.hashsalt": "carrick", "svg.fonttype": "none", "font.size": 9}):
        figure = draw(reports, task, metric=metric)
        metadata = {"Date": None} if target.suffix.lower() == ".svg" else {}
        figure.savefig(target, dpi=160, metadata=metadata)


def draw(reports: Mapping[str, EvaluationReport], task: str, *, metric: str | None = None) -> Figure:
    """Draw the figure that `bars` saves."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    languages, name = _axis(reports, task, metric)
    groups = [*languages, OVERALL] if len(languages) > 1 else languages
    many = len(reports)
    width = 0.8 / many
    size = min(12.0, max(3.2, 0.9 + len(groups) * max(0.45, 0.2 * many)))
    figure = Figure(figsize=(size, 3.2 if many == 1 else 3.4))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    for place, (label, report) in enumerate(reports.items()):
        scores = _scores(report, task, name, groups)
        shift = (place - (many - 1) / 2) * width
        axes.bar(
            [group + shift for group in range(len(groups))],
            [score.value for score in scores],
            width * 0.92,
            yerr=[score.standard_error or 0.0 for score in scores],
            color=COLOURS[place],
            hatch=_HATCHES[place] if many > 1 else "",
            edgecolor="white",
            linewidth=0.4,
            error_kw={"elinewidth": 0.9, "capsize": 2.0, "ecolor": _INK},
            label=label,
        )
    _dress(axes, groups, name, task)
    if many > 1:
        figure.legend(loc="outside lower center", ncols=min(many, 4), frameon=False, fontsize=8)
    return figure


def _dress(axes: Axes, groups: Sequence[str], metric: str, task: str) -> None:
    axes.set_xticks(range(len(groups)), [*groups])
    if groups[-1] == OVERALL:
        axes.axvline(len(groups) - 1.5, color="#b0b0b0", linewidth=0.8, linestyle=":")
    axes.set_xlabel("language")
    better = ", lower is better" if metric in _LOWER_IS_BETTER else ""
    axes.set_ylabel(f"{_NAMES.get(metric, metric)} (± 1 s.e.){better}")
    axes.set_title(task, fontsize=10, color=_INK)
    axes.set_ylim(bottom=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _axis(reports: Mapping[str, EvaluationReport], task: str, metric: str | None) -> tuple[list[str], str]:
    """Return the languages and the score's name, which all reports must share."""
    if not 1 <= len(reports) <= len(COLOURS):
        raise ConfigError(f"a chart shows 1 to {len(COLOURS)} models; these are {len(reports)}")
    languages: list[str] = []
    name = metric or ""
    for label, report in reports.items():
        results = report.of(task)
        if not results:
            raise ConfigError(f"{label} has no task {task}; its tasks are {', '.join(report.tasks)}")
        name = name or results[0].metric
        missing = [each.language for each in results if name not in each.scores]
        if missing:
            raise ConfigError(f"{label} has no score {name} of {task}; it has {', '.join(results[0].scores)}")
        found = [each.language for each in results]
        if languages and found != languages:
            raise ConfigError(f"{label} has {task} in {', '.join(found)}, others in {', '.join(languages)}")
        languages = found
    return languages, name


def _scores(report: EvaluationReport, task: str, metric: str, groups: Sequence[str]) -> list[Score]:
    by_language = {result.language: result.scores[metric] for result in report.of(task)}
    by_language[OVERALL] = report.overall(task)[metric]
    found = [by_language[group] for group in groups]
    return [score if math.isfinite(score.value) else score._replace(value=0.0) for score in found]
