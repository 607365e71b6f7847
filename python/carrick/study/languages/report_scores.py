"""Sections on scores: tables by language and overall, errors, ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study import plots
from carrick.study.languages import stages
from carrick.study.languages.wording import p_value, short, signed
from carrick.study.report import Figure, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.report import Part

_ERRORS = (
    "± rows: one standard error over drawn test rows (bootstrap, mean over seeds). ± seeds: standard deviation over "
    "seeds. Against COMB: difference and 95 % interval, paired over rows and seeds."
)


def scores(found: Mapping[str, Any]) -> list[Part]:
    """Return the tables of macro F1 with their plots."""
    rows = found["rows"]
    shown = [name for name in rows if name != stages.BEFORE_UPDATE]
    codes = list(next(iter(rows.values()))["languages"])
    languages = Table(
        ["macro F1", *codes, "overall"],
        [
            [
                rows[name]["title"],
                *(short(rows[name]["languages"][code]["macro_f1"]["mean"]) for code in codes),
                short(rows[name]["overall"]["macro_f1"]["mean"]),
            ]
            for name in shown
        ],
        "Macro F1 on the test rows, mean over seeds. overall: unweighted mean over languages. Bold: the highest. "
        "The errors of single languages are in the plot, all of them in results.json.",
        best=range(1, len(codes) + 2),
    )
    overall = Table(
        ["overall", "macro F1", "± rows", "± seeds", "against COMB", "95 % interval"],
        [
            [rows[n]["title"], *_with_errors(rows[n]["overall"]["macro_f1"]), *_against(rows[n])]
            for n in shown
        ],
        _ERRORS,
        best=[1],
    )
    return [languages, overall, _all_rows(found, shown), _points(found, codes)]


def _with_errors(score: Mapping[str, Any]) -> list[str]:
    spread = score["seed_spread"]
    return [short(score["mean"]), short(score["row_error"]), "" if spread is None else short(spread)]


def _against(row: Mapping[str, Any]) -> list[str]:
    difference = row.get("against_comb")
    if difference is None:
        return ["", ""]
    return [signed(difference["difference"]), f"{signed(difference['low'])} to {signed(difference['high'])}"]


def _colour(name: str) -> str:
    if name in {stages.COMBINED, stages.COMBINED_HALF}:
        return plots.ORANGE
    if name == stages.INDIVIDUAL:
        return plots.GREEN
    return plots.GREY if name == stages.NO_ADAPTER else plots.BLUE


def _all_rows(found: Mapping[str, Any], shown: Sequence[str]) -> Figure:
    rows = {name: found["rows"][name] for name in shown if name != stages.NO_ADAPTER}
    scores = [row["overall"]["macro_f1"] for row in rows.values()]
    spreads = [score["seed_spread"] for score in scores]
    comb = found["rows"][stages.COMBINED]["overall"]["macro_f1"]["mean"]
    base = found["rows"][stages.NO_ADAPTER]["overall"]["macro_f1"]["mean"]
    return Figure(
        "overall",
        "Overall macro F1. Discs: mean over seeds, with one standard error over test rows; pale bars: standard "
        "deviation over seeds; rings: single seeds. Orange: trained on all languages; green: each language's own "
        f"adapter; blue: merged. Without adapter it is {short(base)}.",
        lambda: plots.ranked_points(
            [row["title"] for row in rows.values()],
            [score["mean"] for score in scores],
            [score["row_error"] for score in scores],
            label="macro F1, unweighted mean over languages",
            colours=[_colour(name) for name in rows],
            runs=[score["seeds"] for score in scores],
            second_errors=None if None in spreads else spreads,
            lines_at={"COMB": comb},
        ),
    )


def _points(found: Mapping[str, Any], codes: Sequence[str]) -> Figure:
    wanted = [stages.INDIVIDUAL, stages.COMBINED, "linear", "ties-d0.5", "knots-ties-d0.5", "clusters"]
    names = [name for name in dict.fromkeys([*wanted, found["best_merge"]]) if name in found["rows"]]

    def series() -> dict[str, tuple[list[float], list[float]]]:
        chosen = {}
        for name in names:
            row = found["rows"][name]
            scores = [row["languages"][code]["macro_f1"] for code in codes]
            chosen[row["title"]] = (
                [score["mean"] for score in scores],
                [score["row_error"] for score in scores],
            )
        return chosen

    return Figure(
        "by-language",
        "Macro F1 of each language for some of the rows; error bars are one standard error over test rows.",
        lambda: plots.grouped_points(codes, series(), label="macro F1"),
    )


def precision(found: Mapping[str, Any]) -> Table:
    """Return the table of the other scores."""
    names = ("macro_precision", "macro_recall", "macro_f1", "accuracy")
    return Table(
        ["overall", "precision", "recall", "F1", "accuracy"],
        [
            [row["title"], *(short(row["overall"][name]["mean"]) for name in names)]
            for name, row in found["rows"].items()
            if name != stages.BEFORE_UPDATE
        ],
        "Macro averages over the labels, unweighted means over languages, means over seeds.",
        best=range(1, 5),
    )


def ranks(found: Mapping[str, Any]) -> list[Part]:
    """Return the Friedman test over languages with the mean ranks."""
    test = found["friedman"]
    if test is None:
        return ["Too few rows differ for a test."]
    titles = [found["rows"][name]["title"] for name in test["rows"]]
    order = sorted(range(len(titles)), key=lambda place: test["mean_ranks"][place])
    best = order[0]
    table = Table(
        ["row", "mean rank", f"p against {titles[best]}"],
        [
            [
                titles[p],
                f"{test['mean_ranks'][p]:.2f}",
                "" if p == best else f"{test['nemenyi_p'][best][p]:.3f}",
            ]
            for p in order
        ],
        "Mean rank over languages, 1 the best; p after Nemenyi, corrected for all pairs.",
    )
    worse = sum(test["mean_ranks"][p] - test["mean_ranks"][best] > test["critical_difference"] for p in order)
    text = (
        f"Friedman's test with the languages as blocks: χ² = {test['statistic']:.1f}, p = {p_value(test['p'])} for "
        f"{len(titles)} rows and {test['blocks']} blocks"
        + (
            f" (Iman-Davenport F = {test['f']:.1f}, p = {p_value(test['p_f'])})"
            if test["f"] is not None
            else ""
        )
        + f". The critical difference of mean ranks is {test['critical_difference']:.1f}: {worse} of "
        f"{len(titles) - 1} rows are worse than the first, {titles[best]}, by more than that. Adapters that came out "
        "the same count once. The languages share one base and one head, so they are not independent blocks: read "
        "p with care."
    )
    figure = Figure(
        "ranks",
        "Mean ranks over languages; bars that do not meet differ by more than the critical difference.",
        lambda: plots.rank_plot(titles, test["mean_ranks"], test["critical_difference"]),
    )
    return [text, table, figure]
