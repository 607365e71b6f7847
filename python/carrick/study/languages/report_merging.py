"""Sections on merging: λ, similarity of updates, the update of one language, time and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study import plots
from carrick.study.languages import stages
from carrick.study.languages.wording import percent, short, signed, tenths
from carrick.study.report import Figure, Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.report import Part


def lambdas(recipe: Mapping[str, Any], found: Mapping[str, Any]) -> list[Part]:
    """Return how λ of task arithmetic was chosen."""
    if not found["lambda"]:
        return ["The recipe chooses no λ."]
    chosen = [f"{run['lambda']:g}" for run in found["lambda"]]
    scales = [float(scale) for scale in found["lambda"][0]["validation"]]
    edge = {min(scales), max(scales)} & {run["lambda"] for run in found["lambda"]}
    text = (
        f"λ scales the sum of the {len(recipe['languages'])} updates; the mean has λ = "
        f"{1 / len(recipe['languages']):.2f}. Chosen by the overall macro F1 of the validation rows, seed by seed: "
        f"{', '.join(chosen)}."
        + (f" The choice lies at the edge of the grid ({min(edge):g})." if edge else "")
    )
    curves = {
        f"seed {seed}": (scales, [run["validation"][f"{scale:g}"]["overall"] for scale in scales])
        for seed, run in zip(recipe["seeds"], found["lambda"], strict=False)
    }
    figure = Figure(
        "lambda",
        "Overall macro F1 on the validation rows over λ.",
        lambda: plots.lines(curves, x="λ, the factor of the sum of updates", y="macro F1, validation"),
    )
    return [text, figure]


def cosine(found: Mapping[str, Any]) -> list[Part]:
    """Return how alike the languages' updates are."""
    cosine = found["cosine"]
    codes = cosine["languages"]
    norms = ", ".join(f"{code} {norm:.2f}" for code, norm in zip(codes, cosine["norms"], strict=True))
    off = [(i, j) for i in range(len(codes)) for j in range(len(codes)) if i < j]
    top = max(off, key=lambda pair: cosine["mean"][pair[0]][pair[1]])
    low = min(off, key=lambda pair: cosine["mean"][pair[0]][pair[1]])
    text = (
        f"Cosine similarity of ΔW = s·B·A over all modules, mean over seeds: from "
        f"{cosine['mean'][low[0]][low[1]]:.3f} ({codes[low[0]]}, {codes[low[1]]}) to "
        f"{cosine['mean'][top[0]][top[1]]:.3f} ({codes[top[0]]}, {codes[top[1]]}). Norms ‖ΔW‖: {norms}. All adapters "
        "of a seed begin with the same A, which makes their updates more alike than independent draws would."
    )
    figure = Figure(
        "cosine",
        "Cosine similarity of the languages' updates, mean over seeds.",
        lambda: plots.heat_map(codes, cosine["mean"], label="cosine similarity"),
    )
    return [text, figure]


def update(found: Mapping[str, Any]) -> list[Part]:
    """Return what more rows of one language did."""
    update, rows = found["update"], found["rows"]
    code = update["language"]
    before, after = rows[stages.BEFORE_UPDATE], rows[found["within"]]
    comb = rows[stages.COMBINED]
    table = Table(
        ["macro F1", "before", "after", "change", "95 % interval", "COMB"],
        [
            [
                language + (" (updated)" if language == code else ""),
                short(before["languages"][language]["macro_f1"]["mean"]),
                short(after["languages"][language]["macro_f1"]["mean"]),
                signed(change["difference"]),
                f"{signed(change['low'])} to {signed(change['high'])}",
                short(comb["languages"][language]["macro_f1"]["mean"]),
            ]
            for language, change in update["changes"].items()
        ],
        f"{after['title']} of all languages' adapters. Before: the adapter of {code} trained on "
        f"{percent(update['share'])} of its rows, the same number of epochs. After: trained again on all of them, "
        "merged again with the others, which are left as they are. COMB: trained again on everything.",
    )
    return [table]


def efficiency(found: Mapping[str, Any]) -> list[Part]:
    """Return seconds, and the paper's quotients beside ours."""
    efficiency = found["efficiency"]
    wall, cpu = (efficiency["seconds"][clock] for clock in ("wall", "cpu"))
    rows = [
        ["build: languages in parallel, merge (time)", "build_merged_time"],
        ["build: languages, merge (cost, sum)", "build_merged_cost"],
        ["build: combined", "build_combined"],
        ["update: one language, merge", "update_merged"],
        ["update: combined again", "update_combined"],
        ["of these the merge", "merge"],
    ]
    seconds = Table(
        ["seconds", "wall", "processor"],
        [[title, tenths(wall[key]), tenths(cpu[key])] for title, key in rows],
        "Mean over seeds. Time is that of the longest of parallel runs, cost the sum of device seconds. Wall times "
        "feel what else runs on the machine; processor seconds of the process hardly do, and hold its start and the "
        "loading of the model." + _left_out(efficiency["resumed"]),
    )
    ours = {clock: efficiency["quotients"][clock] for clock in ("wall", "cpu")}
    paper = efficiency["paper"]
    quotients = Table(
        ["update against training all again", "here, wall", "here, processor", "paper", "earlier abstract"],
        [
            [
                "time, times faster",
                tenths(ours["wall"]["update"]),
                tenths(ours["cpu"]["update"]),
                f"{paper['time']:.1f}",
                "up to 50 % less",
            ],
            [
                "cost, times cheaper",
                tenths(ours["wall"]["update"]),
                tenths(ours["cpu"]["update"]),
                f"{paper['cost']:.1f}",
                "over 60 % less",
            ],
            [
                "cost, share of it",
                percent(ours["wall"]["update_share"], 1),
                "–" if ours["cpu"]["update_share"] is None else percent(ours["cpu"]["update_share"], 1),
                percent(paper["case_study_cost_share"], 1),
                "",
            ],
        ],
        "The paper's numbers are printed beside ours; 37.5 % is its case study, Japanese among five languages.",
    )
    return [seconds, quotients]


def _left_out(resumed: Sequence[str]) -> str:
    """Say why there are no processor seconds of what rests on trainings that were resumed."""
    if not resumed:
        return ""
    return (
        f" Resumed after an interruption: {', '.join(resumed)}; the processor seconds of their earlier runs are not "
        "known, and what rests on them has none."
    )
