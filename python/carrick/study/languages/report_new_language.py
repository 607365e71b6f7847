"""The section on a language that is added to models of the others."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from carrick.study import plots
from carrick.study.languages.wording import percent, short, signed, tenths
from carrick.study.report import Figure, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure as Drawing

    from carrick.study.report import Part


def new_language(found: Mapping[str, Any], added: Mapping[str, Any]) -> list[Part]:
    """Return scores before and after the addition of a language, merged and combined, with time and cost."""
    code = added["language"]
    merge = found["rows"][found["within"]]["title"]
    return [
        _scores(
            found,
            added,
            "merged",
            f"{merge}. Before: of the other languages' adapters. After: of all; the adapter of {code} is trained, the "
            "others are left as they are. Interval: over drawn test rows, paired; ± seeds: standard deviation of the "
            "change over seeds.",
        ),
        _scores(
            found,
            added,
            "combined",
            f"COMB. Before: trained on the other languages, the same number of steps a language. After: trained again "
            f"on all, {code} among them.",
        ),
        _figure(added, merge),
        _efficiency(added, found["efficiency"]["paper"]),
    ]


def _scores(found: Mapping[str, Any], added: Mapping[str, Any], model: str, caption: str) -> Table:
    part, code = added[model], added["language"]
    before, after = part["before"]["languages"], found["rows"][part["after"]]["languages"]
    rows = [
        (
            f"{language} (added)" if language == code else language,
            before[language]["macro_f1"]["mean"],
            after[language]["macro_f1"]["mean"],
            change,
        )
        for language, change in part["changes"].items()
    ]
    others = [language for language in before if language != code]
    means = [
        statistics.fmean(each[language]["macro_f1"]["mean"] for language in others)
        for each in (before, after)
    ]
    rows.append(("others, mean", means[0], means[1], part["others"]))
    return Table(
        ["macro F1", "before", "after", "change", "95 % interval", "± seeds"],
        [
            [
                title,
                short(old),
                short(new),
                signed(change["difference"]),
                f"{signed(change['low'])} to {signed(change['high'])}",
                short(statistics.stdev(change["seeds"])) if len(change["seeds"]) > 1 else "",
            ]
            for title, old, new, change in rows
        ],
        caption,
    )


def _figure(added: Mapping[str, Any], merge: str) -> Figure:
    codes = list(added["merged"]["changes"])
    series = {
        title: (
            [added[model]["changes"][code]["difference"] for code in codes],
            [added[model]["changes"][code]["standard_error"] for code in codes],
        )
        for title, model in ((merge, "merged"), ("COMB", "combined"))
    }

    def draw() -> Drawing:
        figure = plots.grouped_points(codes, series, label="change of macro F1")
        figure.axes[0].axhline(0, color=plots.INK, lw=0.8)
        return figure

    return Figure(
        "new-language",
        f"Change of macro F1 as {added['language']} is added; error bars are one standard error over test rows, "
        "paired.",
        draw,
    )


def _efficiency(added: Mapping[str, Any], paper: Mapping[str, float]) -> Table:
    code, efficiency = added["language"], added["efficiency"]
    wall, cpu = (efficiency["seconds"][clock] for clock in ("wall", "cpu"))
    ours = [efficiency["quotients"][clock] for clock in ("wall", "cpu")]
    return Table(
        [f"adding {code}", "wall", "processor"],
        [
            [f"adapter of {code}, merge: seconds", tenths(wall["merged"]), tenths(cpu["merged"])],
            ["COMB again on all: seconds", tenths(wall["combined"]), tenths(cpu["combined"])],
            ["times faster and cheaper", *(tenths(each["faster"]) for each in ours)],
            [
                "share of time and cost",
                *("–" if e["share"] is None else percent(e["share"], 1) for e in ours),
            ],
        ],
        "Mean over seeds, counted as under time and cost. One training a side: its time is its cost. The paper, of "
        f"languages added or updated: {paper['time']:.1f} times faster, {paper['cost']:.1f} times cheaper.",
    )
