"""The adapters' part of the page of benchmarks: one row for each comparison, and a picture of the ratios."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benches.adapters_jobs import JOBS
from benches.memory import anonymous, mib, planned, resident

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Result = dict[str, Any]
INK = {"light": ("#1f2328", "#656d76"), "dark": ("#e6edf3", "#8b949e")}
COLOURS = {"dense": "#4c78a8", "torch": "#72a0c1", "peft": "#59a14f", "mergekit": "#b279a2"}
LABELS = {"dense": "dense SVD, torch", "torch": "low rank, torch", "peft": "PEFT", "mergekit": "mergekit"}


def _seconds(value: float) -> str:
    if value < 0.1:
        return f"{value * 1000:.1f} ms"
    return f"{value:.0f} s" if value >= 20 else f"{value:.1f} s" if value >= 2 else f"{value:.2f} s"


def _times(value: float) -> str:
    return f"{value:.0f}x" if value >= 20 else f"{value:.1f}x" if value >= 2 else f"{value:.2f}x"


def _own(result: Result, name: str, fact: Result) -> float:
    """Return the seconds of Carrick that stand against another tool's."""
    runs = result["runs"]["carrick"]
    inside = fact["inside"] and name != "carrick"
    seconds = statistics.median(run["engine"]["seconds"] if inside else run["seconds"] for run in runs)
    return float(seconds) / fact["units"]


def comparisons(result: Result) -> Iterator[tuple[str, Result, float, float]]:
    """Yield every other tool's name and facts, its seconds and Carrick's."""
    for name, fact in result["tools"].items():
        if name != "carrick" and name in result["medians"] and "carrick" in result["medians"]:
            theirs = result["medians"][name]["seconds"] * fact["factor"]
            yield name, fact, theirs, _own(result, name, fact)


def adapter_results(results: dict[str, Result]) -> list[Result]:
    """Return the results of these jobs in the order of the table."""
    return [results[name] for name in JOBS if name in results and "carrick" in results[name]["medians"]]


def adapters_table(results: dict[str, Result]) -> list[str]:
    """Return one row for each comparison, and below them what stands for what."""
    rows = adapter_results(results)
    if not rows:
        return []
    lines = [
        "| job | Carrick | goal | memory | resident | compared with | its time | Carrick's | faster | goal | "
        "error, Carrick's : its | its memory |",
        "|---|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|",
    ]
    rules = []
    for result in rows:
        cells = _carrick(result)
        for name, fact, theirs, own in comparisons(result):
            lines.append("| " + " | ".join(cells + _other(result, name, fact, theirs, own)) + " |")
            cells = [""] * len(cells)
            if fact["rule"]:
                rules.append(f"- {result['title']}, {fact['label']}: {fact['rule']}.")
    return [*lines, *(["", "Where a part was measured for the whole:", "", *rules] if rules else [])]


def _carrick(result: Result) -> list[str]:
    runs = result["runs"]["carrick"]
    memory = mib(anonymous(runs))
    if "planned_memory" in result:
        memory += f" (planned: {planned(result['planned_memory'])} beyond the interpreter)"
    goal = f"≤ {_seconds(result['seconds_goal'])}" if result["seconds_goal"] else ""
    median = result["medians"]["carrick"]["seconds"]
    return [result["title"], _seconds(median), goal, memory, mib(resident(runs))]


def _other(result: Result, name: str, fact: Result, theirs: float, own: float) -> list[str]:
    about = "≈ " if fact["factor"] != 1 else ""
    goal, errors = fact["goal"], result["errors"]
    if name == "ceiling":
        ratio, wanted = f"{own / theirs:.2f}x as long", f"≤ {goal}x"
    else:
        ratio, wanted = _times(theirs / own), f"≥ {goal:.0f}x" if goal else ""
    both = name in errors and "carrick" in errors
    error = f"{errors['carrick']:.4g} : {errors[name]:.4g}" if both else ""
    memory = mib(anonymous(result["runs"][name]))
    return [fact["label"], about + _seconds(theirs), _seconds(own), ratio, wanted, error, memory]


def adapters_picture(results: dict[str, Result]) -> str:
    """Return the picture for the page; nothing before there are results."""
    if not adapter_results(results):
        return ""
    lines = [
        "<picture>",
        '  <source media="(prefers-color-scheme: dark)" srcset="../benches/results/adapters-dark.svg">',
        '  <img alt="How many times as long as Carrick each tool needs" src="../benches/results/adapters-light.svg">',
        "</picture>",
    ]
    return "\n\n" + "\n".join(lines)


def draw_adapters(results: dict[str, Result], path: Path, *, theme: str) -> None:
    """Draw how many times Carrick's time each tool needs, on a logarithmic axis."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "carrick"
    ink, quiet = INK[theme]
    bars = [
        (result["title"], name, theirs / own)
        for result in adapter_results(results)
        for name, _, theirs, own in comparisons(result)
        if name in COLOURS
    ]
    figure, axes = plt.subplots(figsize=(8.2, 0.9 + 0.34 * len(bars)))
    seen: set[str] = set()
    for place, (_, name, ratio) in enumerate(bars):
        label = None if name in seen else LABELS[name]
        seen.add(name)
        axes.barh(place, ratio - 1, 0.7, left=1, color=COLOURS[name], label=label)
        axes.annotate(_times(ratio), (max(ratio, 1), place), (4, 0), textcoords="offset points", va="center",
                      color=ink, fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.axvline(1, color=quiet, linewidth=0.8)
    names = [title if not n or bars[n - 1][0] != title else "" for n, (title, _, _) in enumerate(bars)]
    axes.set_yticks(range(len(bars)), names)
    axes.invert_yaxis()
    cores = {result["machine"]["cores"] for result in adapter_results(results)}
    axes.set_xlabel(
        f"times as long as Carrick, logarithmic; {', '.join(map(str, sorted(cores)))} cores",
        color=quiet,
        fontsize=8,
    )
    axes.tick_params(which="both", colors=quiet, labelsize=8, length=0)
    axes.tick_params(axis="y", labelsize=9, labelcolor=ink)
    axes.margins(x=0.12)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(quiet)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, frameon=False, labelcolor=ink, fontsize=9
    )
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
