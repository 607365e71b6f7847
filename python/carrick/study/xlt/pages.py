"""The report at full scale: the paper's tables, with its numbers beside ours."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from carrick.study.report import Report, Section, Table
from carrick.study.xlt.paper import FREEZE, LANGUAGES, MEANS

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAMES = {
    "base": "base",
    "math": "math only",
    "language": "language only",
    "mixing": "data mixing",
    "average": "average",
    "ties": "TIES",
    "math_partial": "math only, partial",
    "language_partial": "language only, partial",
    "swap": "layer swap",
    "swap_partial": "layer swap, partial SFT",
    "simultaneous": "simultaneous SFT",
}


def report(results: Mapping[str, Any]) -> Report:
    """Return the report of results of the study."""
    found, recipe = results["found"], results["recipe"]
    quick = ["**This is a quick run on made-up data and random models: its numbers mean nothing.**"]
    hours = sum(one["device_seconds"] for one in found["training"].values()) / 3600
    cost = sum(one.get("cost") or 0.0 for one in found["training"].values())
    where = recipe["selection_languages"]
    chosen = (
        f"Of A, B and C each base has, by family, the partition with the best mean {recipe['selection']} over "
        f"{', '.join(where)}; the paper shows the highest test score."
        if where
        else "Of A, B and C each shows C."
    )
    return Report(
        "Cross-lingual transfer as in the paper",
        [
            *(quick if results["quick"] else []),
            f"MGSM, {recipe['shots']['mgsm']} shots, exact match. {chosen}",
            f"All trainings took {hours:,.1f} device hours, {cost:,.2f} {recipe['device']['currency']}.",
        ],
        [
            Section("Means over models", [_means(found, recipe)]),
            Section("Freeze against train, then reset", [_freeze(found)]),
            *(Section(one["condition"], [_condition(one)]) for one in found["conditions"]),
            Section("Friedman's test", [_friedman(found)]),
            Section("Merge indicators", [_indicators(found)]),
        ],
    )


def name(row: str) -> str:
    """Return what a row is called.

    >>> name("full/swap"), name("base")
    ('layer swap, full', 'base')
    """
    kind, _, family = row.rpartition("/")
    return f"{_NAMES[family]}, {'LoRA' if kind == 'lora' else kind}" if kind else _NAMES[family]


def _means(found: Mapping[str, Any], recipe: Mapping[str, Any]) -> Table:
    """Return Tables 1 and 3: each row's mean over models by language, the paper's beside it."""
    conditions = [one for one in found["conditions"] if not one["condition"].endswith("-cpt")]
    codes = recipe["languages"]
    cells = []
    for row in conditions[0]["rows"]:
        line = [name(row)]
        for code in [*codes, "en"]:
            side = "en" if code == "en" else "target"
            own = [one["rows"][row][side] for one in conditions if code in {"en", one["language"]}]
            printed = MEANS.get(row)
            paper = (
                "" if printed is None or code not in LANGUAGES else f" ({printed[LANGUAGES.index(code)]:.1f})"
            )
            line.append(f"{100 * fmean(own):.1f}{paper}")
        cells.append(line)
    return Table(["", *codes, "en"], cells, "Per cent, mean over the models; the paper's in brackets.")


def _freeze(found: Mapping[str, Any]) -> Table:
    cells = [
        [p, *(f"{100 * row[way]:.1f} ({printed:.1f})" for way, printed in zip(row, FREEZE[p], strict=True))]
        for p, row in found["freeze"].items()
    ]
    return Table(
        ["partition", "frozen during", "reset after"],
        cells,
        "The math expert on English MGSM, per cent, full fine-tuning, mean over the models (the paper's in brackets).",
    )


def _condition(one: Mapping[str, Any]) -> Table:
    cells = [
        [name(row), *(f"{100 * score[side]:.1f}" for side in ("target", "en"))]
        for row, score in one["rows"].items()
    ]
    return Table(["", one["language"], "en"], cells, "Per cent.")


def _friedman(found: Mapping[str, Any]) -> Table:
    cells = []
    for kind, test in found["friedman"].items():
        ranks = zip(test["treatments"], test["mean_ranks"], strict=True)
        cells += [[kind, _NAMES[treatment], f"{rank:.2f}"] for treatment, rank in ranks]
        cells.append(
            [kind, f"χ² = {test['statistic']:.2f}, {test['blocks']} conditions", f"p = {test['p']:.3g}"]
        )
    return Table(["", "treatment", "mean rank"], cells, "Ranks over conditions, 1 the best.")


def _indicators(found: Mapping[str, Any]) -> Table:
    cells = [
        [
            signal,
            str(value["points"]),
            *(_correlation(value[k]) for k in ("pearson", "spearman")),
        ]
        for signal, value in found["indicators"].items()
    ]
    return Table(
        ["expert / its score", "merges", "Pearson", "Spearman"],
        cells,
        "Correlation of an expert's own score with the swap's MGSM in the target language.",
    )


def _correlation(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
