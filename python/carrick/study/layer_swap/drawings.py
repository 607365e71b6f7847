"""Plots of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.layer_swap.wording import label
from carrick.study.plots import BLUE, COLOURS, GREEN, GREY, INK, MARKERS, ORANGE, PURPLE, SKY, canvas, plain

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from matplotlib.figure import Figure

_COLOURS = {
    "swap": BLUE,
    "swap_partial": SKY,
    "swap_embeddings": BLUE,
    "swap_cpt": BLUE,
    "simultaneous": GREEN,
    "simultaneous_rate": GREEN,
    "average": ORANGE,
    "ties": ORANGE,
    "mixing": PURPLE,
}
_MEANINGS = {
    BLUE: "layer swap",
    SKY: "layer swap of partial SFT",
    GREEN: "simultaneous SFT",
    ORANGE: "average, TIES",
    PURPLE: "data mixing",
    GREY: "one expert",
}

_KINDS = {"full": "full fine-tuning", "lora": "LoRA"}


# From how many times the smallest value on an axis is wide.
_WIDE = 5


def german_math(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw perplexity on German math of every model but the resets, ordered, with intervals over texts."""
    from matplotlib.ticker import LogLocator, NullLocator  # noqa: PLC0415  (an extra)

    shown = [row for row in rows if row["family"] not in {"reset", "base"}]
    shown.sort(key=lambda row: row["scores"]["german_math"]["perplexity"])
    base = next(row for row in rows if row["family"] == "base")["scores"]["german_math"]["perplexity"]
    figure, axes = canvas(7.0, 0.9 + 0.24 * len(shown))
    for place, row in enumerate(shown):
        score = row["scores"]["german_math"]
        value = score["perplexity"]
        colour = _COLOURS.get(row["family"], GREY)
        error = [[value - score["low"]], [score["high"] - value]]
        marker = "x" if row["partition"] == "Z" else "o"
        axes.errorbar(
            value, place, xerr=error, fmt=marker, color=colour, ecolor=colour, ms=5, capsize=2.5, lw=1.2
        )
    axes.axvline(base, color=INK, lw=0.8, ls=":")
    axes.annotate("base", (base, -0.9), fontsize=7.5, ha="center", va="bottom", annotation_clip=False)
    axes.set_yticks(range(len(shown)), [label(row) for row in shown])
    axes.set_ylim(len(shown) - 0.4, -0.9)
    axes.set_xscale("log")
    axes.set_xlabel("perplexity per token on German math (95 % interval)\n× is the control Z", fontsize=8.5)
    low, high = axes.get_xlim()
    # All nine of a decade would run into each other.
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5) if high > _WIDE * low else range(1, 10)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="both", color="#e5e5e5", lw=0.6)
    axes.set_axisbelow(True)
    _legend(figure, {_COLOURS.get(row["family"], GREY) for row in shown})
    return figure


def _legend(figure: Figure, used: Collection[str]) -> None:
    """Say above a figure what the colours of its points are."""
    from matplotlib.lines import Line2D  # noqa: PLC0415  (an extra)

    handles = [
        Line2D([], [], color=colour, marker="o", ms=5, lw=1.2, label=meaning)
        for colour, meaning in _MEANINGS.items()
        if colour in used
    ]
    figure.legend(handles=handles, fontsize=7.5, frameon=False, ncols=3, loc="outside upper center")


def freeze_and_reset(found: Mapping[str, Any]) -> Figure:
    """Draw the math expert on English math, frozen against reset, for each partition and kind."""
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415  (an extra)

    by_key = {row["row"]: row["scores"]["math_en"] for row in found["rows"]}
    kinds = list(found["chosen"])
    figure = Drawing(figsize=(7.0, 3.1))
    figure.set_layout_engine("constrained")
    for panel, kind in enumerate(kinds):
        axes = figure.add_subplot(1, len(kinds), panel + 1)
        plain(axes)
        for place, (way, name) in enumerate((("math_partial", "frozen during"), ("reset", "reset after"))):
            scores = [by_key[f"{kind}/{way}/{p}"] for p in "ABCZ"]
            values = [score["perplexity"] for score in scores]
            errors = [
                [value - score["low"] for value, score in zip(values, scores, strict=True)],
                [score["high"] - value for value, score in zip(values, scores, strict=True)],
            ]
            places = [x + 0.16 * (2 * place - 1) for x in range(4)]
            axes.errorbar(
                places, values, yerr=errors, fmt=MARKERS[place], color=COLOURS[place], ms=5, capsize=2.5, lw=1.2,
                label=name,
            )  # fmt: skip
        axes.axhline(by_key[f"{kind}/math"]["perplexity"], color=INK, lw=0.9, ls="--", label="nothing frozen")
        axes.axhline(by_key["base/base"]["perplexity"], color=GREY, lw=0.9, ls=":", label="base")
        axes.set_xticks(range(4), list("ABCZ"))
        axes.set_title(_KINDS[kind], fontsize=8.5)
        axes.set_xlabel("partition", fontsize=8.5)
        if panel == 0:
            axes.set_ylabel("perplexity, English math", fontsize=8.5)
            handles, labels = axes.get_legend_handles_labels()
            figure.legend(handles, labels, fontsize=7.5, frameon=False, ncols=4, loc="outside upper center")
    return figure


def predictions(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the merge's loss over each of the experts' own losses."""
    from matplotlib.figure import Figure as Drawing  # noqa: PLC0415

    panels = (
        ("math/math_en", "math expert: English math"),
        ("math/german_math", "math expert: German math"),
        ("language/general_de", "German expert: general German"),
        ("language/german_math", "German expert: German math"),
    )
    figure = Drawing(figsize=(7.0, 5.0))
    figure.set_layout_engine("constrained")
    for number, (signal, title) in enumerate(panels):
        axes = figure.add_subplot(2, 2, number + 1)
        plain(axes)
        for place, kind in enumerate(sorted({point["kind"] for point in points})):
            own = [point for point in points if point["kind"] == kind]
            axes.plot(
                [point[signal] for point in own], [point["merged"] for point in own], MARKERS[place], ls="", ms=5,
                color=COLOURS[place], mec=INK, mew=0.4, label=_KINDS[kind],
            )  # fmt: skip
        axes.locator_params(axis="both", nbins=5)
        axes.set_xlabel(title, fontsize=8)
        axes.set_ylabel("merge: German math" if number % 2 == 0 else "", fontsize=8)
        if number == 0:
            axes.legend(fontsize=7.5, frameon=False)
    return figure
