"""Turn the JSON of benches/results into docs/benchmarks.md's tables and the README's picture."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benches.adapters_report import adapter_results, adapters_picture, adapters_table, draw_adapters  # noqa: E402
from benches.jobs import JOBS  # noqa: E402
from benches.memory import anonymous, gib, mib, resident  # noqa: E402

RESULTS = ROOT / "benches" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PICTURED = ("linear", "ties", "dare_ties", "slerp", "model_stock", "della")
Result = dict[str, Any]


def load(folder: Path) -> dict[str, Result]:
    """Read every result of a folder, in the order of the jobs."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    order = [*JOBS, *(name for name in found if name not in JOBS)]
    return {name: found[name] for name in order if name in found}


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 20 else f"{value:.1f} s" if value >= 2 else f"{value:.2f} s"


def _engine_seconds(result: Result) -> float:
    """Median of the seconds that the merge took inside the process, without the interpreter's start."""
    return statistics.median(run["engine"]["seconds"] for run in result["runs"]["carrick"])


def merge_table(results: dict[str, Result]) -> list[str]:
    """Return one row for each merge: seconds, ratios and memory."""
    rows = [r for r in results.values() if r["kind"] == "merge"]
    if not rows:
        return []
    lines = [
        "| job | Carrick | ceiling | of it | mergekit | faster | goal | torch script | faster | "
        "memory | resident | mergekit's memory |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in rows:
        medians, runs = result["medians"], result["runs"]
        mine = medians["carrick"]["seconds"]
        cells = [result["title"], _seconds(mine)]
        if "ceiling" in medians:
            floor = medians["ceiling"]["seconds"]
            cells += [_seconds(floor), f"{_engine_seconds(result) / floor:.2f}x"]
        else:
            cells += ["", ""]
        for tool in ("mergekit", "torch"):
            if tool in medians:
                theirs = medians[tool]["seconds"]
                cells += [_seconds(theirs), f"{theirs / mine:.0f}x"]
            else:
                cells += ["", ""]
            if tool == "mergekit":
                cells.append(_goal(result["goals"]))
        cells += [mib(anonymous(runs["carrick"])), mib(resident(runs["carrick"]))]
        cells.append(gib(anonymous(runs["mergekit"])) if "mergekit" in medians else "")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _goal(goals: dict[str, float | None]) -> str:
    wanted = f"≥ {goals['mergekit']:.0f}x"
    return wanted + (f", ≤ {goals['ceiling']}x ceiling" if goals["ceiling"] else "")


def scale_table(results: dict[str, Result]) -> list[str]:
    """Return one row for each merge that shows how memory and time grow."""
    lines = ["| job | time | memory | resident |", "|---|--:|--:|--:|"]
    rows: list[tuple[str, Result]] = []
    for result in results.values():
        if result["kind"] != "scale":
            continue
        sizes = result.get("sizes")
        rows += (
            [(f"{result['title']}: {s['shape']}", s) for s in sizes] if sizes else [(result["title"], result)]
        )
    for title, result in rows:
        runs = result["runs"]["carrick"]
        seconds = statistics.median(run["seconds"] for run in runs)
        busy = f"; {result['busy_cores']:.1f} cores busy" if "busy_cores" in result else ""
        memory = f"{mib(anonymous(runs))} | {mib(resident(runs))}"
        lines.append(f"| {title}{busy} | {_seconds(seconds)} | {memory} |")
    return lines if rows else []


def arrays_table(results: dict[str, Result]) -> list[str]:
    """Return one row for each operation on arrays: one thread against one, two against two."""
    result = next((r for r in results.values() if r["kind"] == "arrays"), None)
    if result is None:
        return []
    lines = [
        f"{result['title']}:",
        "",
        "| operation, compared with | threads | Carrick | other | faster |",
        "|---|--:|--:|--:|--:|",
    ]
    for row in result["rows"]:
        mine, other = statistics.median(row["carrick"]), statistics.median(row["reference"])
        cells = [row["name"], str(row["threads"]), f"{mine * 1000:.0f} ms", f"{other * 1000:.0f} ms"]
        lines.append("| " + " | ".join([*cells, f"{other / mine:.1f}x"]) + " |")
    return lines


def where(results: dict[str, Result]) -> list[str]:
    """Say on what machine and with which versions the results were made."""
    machines = {json.dumps(r["machine"], sort_keys=True): r["machine"] for r in results.values()}
    lines = []
    for facts in {f"{f['cpu']}{f['commit']}": f for f in machines.values()}.values():
        versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
        memory = facts["memory_bytes"] / 2**30
        lines.append(
            f"- {facts['date']}, commit {facts['commit']}: {facts['cpu']}, {facts['cores']} cores, "
            f"{memory:.0f} GiB, Linux {facts['kernel']}, {facts['filesystem']}; Python {facts['python']}, {versions}."
        )
    return lines


def table(folder: Path) -> str:
    """Return everything that was measured as Markdown."""
    results = load(folder)
    parts = [
        merge_table(results),
        adapters_table(results),
        scale_table(results),
        arrays_table(results),
        where(results),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def write_between_marks(path: Path, text: str) -> None:
    """Replace what stands between a page's two marks."""
    before, rest = path.read_text().split(BEGIN)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def picture(results: dict[str, Result]) -> str:
    """Return the README's picture and the sentence below it."""
    lines = [
        "<picture>",
        '  <source media="(prefers-color-scheme: dark)" srcset="benches/results/merge-dark.svg">',
        '  <img alt="Seconds that each tool needs for a merge" src="benches/results/merge-light.svg">',
        "</picture>",
    ]
    if "ties" in results and "mergekit" in results["ties"]["medians"]:
        ties = results["ties"]
        mine, theirs = ties["medians"]["carrick"], ties["medians"]["mergekit"]
        lines += [
            "",
            f"TIES of a base and three fine-tunes of {ties['parameters'] / 1e9:.1f} billion parameters on "
            f"{ties['machine']['cores']} cores: {_seconds(mine['seconds'])} and "
            f"{mib(anonymous(ties['runs']['carrick']))} of memory, where mergekit 0.1.5 takes "
            f"{_seconds(theirs['seconds'])} and {gib(anonymous(ties['runs']['mergekit']))}. How it was measured, and "
            "where the goals were missed: [docs/benchmarks.md](docs/benchmarks.md).",
        ]
    return "\n".join(lines)


def draw(results: dict[str, Result], path: Path, *, dark: bool) -> None:
    """Draw how much longer each tool needs than Carrick, on a logarithmic axis."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("svg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    mpl.rcParams["svg.hashsalt"] = "carrick"
    ink, quiet = ("#e6edf3", "#8b949e") if dark else ("#1f2328", "#656d76")
    colours = {"ceiling": quiet, "carrick": "#e8590c", "torch": "#4c78a8", "mergekit": "#b279a2"}
    labels = {
        "ceiling": "moving the bytes",
        "carrick": "Carrick",
        "torch": "torch script",
        "mergekit": "mergekit",
    }
    rows = [results[name] for name in PICTURED if name in results]
    figure, axes = plt.subplots(figsize=(8.2, 0.55 + 0.72 * len(rows)))
    height = 0.19
    for place, result in enumerate(rows):
        for number, tool in enumerate(colours):
            if tool not in result["medians"]:
                continue
            seconds = result["medians"][tool]["seconds"]
            y = place + (number - 1.5) * height
            label = labels[tool] if place == 0 else None
            axes.barh(y, seconds, height * 0.86, color=colours[tool], label=label)
            axes.annotate(_seconds(seconds), (seconds, y), (4, 0), textcoords="offset points", va="center",
                          color=ink if tool == "carrick" else quiet, fontsize=8)  # fmt: skip
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows], color=ink, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlabel("seconds, logarithmic; Llama-3.2-1B shape in bf16, 2 cores", color=quiet, fontsize=8)
    axes.tick_params(which="both", colors=quiet, labelsize=8, length=0)
    axes.tick_params(axis="y", labelsize=9, labelcolor=ink)
    axes.margins(x=0.12)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(quiet)
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.4, 1.14), ncols=4, frameon=False, labelcolor=ink, fontsize=9
    )
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Rewrite the page and the pictures from the committed results."""
    results = load(RESULTS)
    if not results:
        sys.exit("benches/results holds no results yet: run `make bench`")
    write_between_marks(PAGE, table(RESULTS) + adapters_picture(results))
    for theme in ("light", "dark"):
        draw(results, RESULTS / f"merge-{theme}.svg", dark=theme == "dark")
        if adapter_results(results):
            draw_adapters(results, RESULTS / f"adapters-{theme}.svg", theme=theme)
    write_between_marks(README, picture(results))


if __name__ == "__main__":
    main()
