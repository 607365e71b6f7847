"""The report at full scale: the paper's tables, with its numbers beside ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.languages.efficiency import PAPER
from carrick.study.lsm.paper import OVERALL
from carrick.study.lsm.stages import CASE
from carrick.study.report import Report, Section, Table

if TYPE_CHECKING:
    from collections.abc import Mapping

_TITLES = {
    "indv": "INDV",
    "comb": "COMB",
    "comb+": "COMB, updated rows",
    "ties-all": "TIES_All",
    "ties-each": "TIES_Each",
    "updated": "merged, updated language",
    "weighted": "merged, unequal weights",
    "weighted+": "merged, unequal weights, updated",
    "equal": "merged, equal weights",
}


def report(results: Mapping[str, Any]) -> Report:
    """Return the report."""
    found, recipe = results["found"], results["recipe"]
    quick = ["**This is a quick run on made-up data and random models: its numbers mean nothing.**"]
    models = "; ".join(f"{name}: `{model['base']}`" for name, model in recipe["models"].items())
    return Report(
        "Merging languages as in the paper",
        [
            *(quick if results["quick"] else []),
            f"Models: {models}. LoRA of rank {recipe['adapter']['rank']}, {recipe['training']['epochs']:g} epochs, "
            f"learning rate {recipe['training']['learning_rate']:g}, batch {recipe['training']['batch_size']}.",
        ],
        [
            *(
                Section(
                    f"{_task(table['task'])}, {table['model']}: {table['metric']}", [_scores(recipe, table)]
                )
                for table in found["tables"]
            ),
            Section("Time and cost of an update", [_efficiency(each) for each in found["efficiency"]]),
        ],
    )


def _task(name: str) -> str:
    return "Case study" if name == CASE else name.capitalize()


def _scores(recipe: Mapping[str, Any], table: Mapping[str, Any]) -> Table:
    main = table["model"] == next(iter(recipe["models"]))
    paper = OVERALL.get((table["task"], table["metric"]), {}) if main else {}
    codes = table["languages"]
    rows = []
    for name, row in table["rows"].items():
        cells = [
            f"{row['languages'][code]['value']:.3f}" if code in row["languages"] else "–" for code in codes
        ]
        error = "" if row["overall_error"] is None else f"{row['overall_error']:.3f}"
        shown = [_TITLES.get(name, name), *cells, f"{row['overall']:.3f}", error]
        rows.append([*shown, f"{paper[name]:.3f}" if name in paper else ""] if paper else shown)
    head = [table["metric"], *codes, "overall", "± rows"]
    return Table(
        [*head, "paper"] if paper else head,
        rows,
        "overall: unweighted mean over languages, with the standard error over test rows."
        + (" A row of a cluster has its own languages alone." if main and table["task"] != CASE else "")
        + (
            f" BERTScore F1 by the last layer of {table['encoder']}, no baseline taken off; "
            "the paper does not name its encoder, and another one's scores lie elsewhere."
            if table["encoder"]
            else ""
        )
        + (" Lower is better." if table["metric"] == "hallucination" else ""),
    )


def _efficiency(each: Mapping[str, Any]) -> Table:
    seconds, quotients = each["seconds"], each["quotients"]

    def price(value: float) -> str:
        return f"{value / 3600 * each['price']:.2f}"

    rows = [
        [title, f"{seconds['time'][key]:,.0f}", f"{seconds['cost'][key]:,.0f}", price(seconds["cost"][key])]
        for title, key in (
            ("build, merged", "build_merged"),
            ("build, combined", "build_combined"),
            (f"update of {each['language']}, merged", "update_merged"),
            ("update, combined", "update_combined"),
        )
    ]
    share = 1 / quotients["cost"]["update"]
    return Table(
        [f"{_task(each['task'])}", "time, s", "device s", each["currency"]],
        rows,
        f"Time is that of the longest of parallel runs, device seconds are summed. The update is "
        f"{quotients['time']['update']:.1f} times faster (paper: {PAPER['time']:g}) and "
        f"{quotients['cost']['update']:.1f} times cheaper (paper: {PAPER['cost']:g}), {100 * share:.1f} % of the cost "
        f"(paper's case study: {100 * PAPER['case_study_cost_share']:.1f} %; an earlier abstract: up to 50 % less "
        "time, more than 60 % less cost).",
    )
