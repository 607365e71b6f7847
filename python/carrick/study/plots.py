"""Plots that can be read in a paper: colour-blind safe, labelled, the same bytes each time."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by all readers; grey is for what is not compared.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY = (
    "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#f0e442", "#8c8c8c",
)  # fmt: skip
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, YELLOW, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
INK = "#1a1a1a"


def png(figure: Figure) -> bytes:
    """Return a figure as PNG bytes without a date or a program's version."""
    import matplotlib as mpl  # noqa: PLC0415  (an extra)

    buffer = io.BytesIO()
    with mpl.rc_context({"font.family": "DejaVu Sans"}):
        figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return buffer.getvalue()


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in inches, and its axes without a frame."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    plain(axes)
    return figure, axes


def plain(axes: Axes) -> None:
    """Take away what carries no information."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, labelsize=8)


def ranked_points(
    names: Sequence[str],
    values: Sequence[float],
    errors: Sequence[float],
    *,
    label: str,
    colours: Sequence[str] | None = None,
    runs: Sequence[Sequence[float]] | None = None,
    second_errors: Sequence[float] | None = None,
    lines_at: Mapping[str, float] | None = None,
) -> Figure:
    """Draw one point a row, top down in the given order: points, not bars, since the axis does not begin at 0.

    Parameters
    ----------
    names, values, errors
        One row each; errors are half-lengths.
    label
        Of the x axis.
    colours
        One for each row.
    runs
        The single runs (seeds) behind each row, as small rings.
    second_errors
        A second error, as a wide pale bar behind the first.
    lines_at
        Vertical lines with their names, such as a baseline.
    """
    figure, axes = canvas(7.0, 0.9 + 0.27 * len(names))
    shades = list(colours or [BLUE] * len(names))
    for place, (value, error, shade) in enumerate(zip(values, errors, shades, strict=True)):
        if second_errors is not None:
            wide = second_errors[place]
            axes.barh(place, 2 * wide, left=value - wide, height=0.55, color=shade, alpha=0.22, lw=0)
        axes.errorbar(value, place, xerr=error, fmt="o", ms=5.5, color=shade, ecolor=shade, capsize=3, lw=1.4)
        if runs is not None and len(runs[place]) > 1:
            axes.plot(
                runs[place], [place] * len(runs[place]), "o", ms=3.2, mfc="white", mec=INK, mew=0.7, zorder=5
            )
    for name, at in (lines_at or {}).items():
        axes.axvline(at, color=INK, lw=0.8, ls=":")
        axes.text(
            at, -0.9, name, fontsize=7.5, color=INK, ha="center", va="bottom", bbox={"fc": "white", "lw": 0, "pad": 1}
        )  # fmt: skip
    axes.set_yticks(list(places := range(len(names))), names)
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.set_xlabel(label, fontsize=8.5, color=INK)
    axes.grid(axis="x", color="#e5e5e5", lw=0.6)
    axes.set_axisbelow(True)
    return figure


def grouped_points(
    groups: Sequence[str],
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    label: str,
) -> Figure:
    """Draw one marker and error bar a series in each group: scores of several models per language.

    Parameters
    ----------
    groups
        Names along the x axis.
    series
        Values and errors of each series, one a group; at most eight series can be told apart.
    label
        Of the y axis.
    """
    figure, axes = canvas(7.4, 3.7)
    width = 0.78 / max(len(series), 1)
    for place, (name, (values, errors)) in enumerate(series.items()):
        shift = (place - (len(series) - 1) / 2) * width
        axes.errorbar(
            [group + shift for group in range(len(groups))], values, yerr=errors, fmt=MARKERS[place % 8], ms=4.5,
            color=COLOURS[place % 8], ecolor=COLOURS[place % 8], mec=INK, mew=0.4, elinewidth=1.1, capsize=2,
            label=name,
        )  # fmt: skip
    for edge in range(1, len(groups)):
        axes.axvline(edge - 0.5, color="#e5e5e5", lw=0.6)
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylabel(label, fontsize=8.5, color=INK)
    axes.legend(
        fontsize=7.5, frameon=False, ncols=min(4, len(series)), loc="lower center", bbox_to_anchor=(0.5, 1.0)
    )
    return figure


def lines(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    errors: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Draw y over x, one line and marker a series."""
    figure, axes = canvas(6.4, 3.7)
    for place, (name, (xs, ys)) in enumerate(series.items()):
        axes.errorbar(
            xs, ys, yerr=(errors or {}).get(name), marker=MARKERS[place % 8], ms=4, lw=1.3, capsize=2,
            color=COLOURS[place % 8], label=name,
        )  # fmt: skip
    axes.set_xlabel(x, fontsize=8.5, color=INK)
    axes.set_ylabel(y, fontsize=8.5, color=INK)
    axes.grid(color="#e5e5e5", lw=0.6)
    axes.legend(fontsize=7.5, frameon=False)
    return figure


def heat_map(names: Sequence[str], values: Sequence[Sequence[float]], *, label: str) -> Figure:
    """Draw a square matrix of similarities with its values; the diagonal is grey, zero is white."""
    import matplotlib as mpl  # noqa: PLC0415

    size = len(names)
    figure, axes = canvas(1.6 + 0.62 * size, 1.0 + 0.56 * size)
    off = [abs(values[i][j]) for i in range(size) for j in range(size) if i != j]
    limit = max([0.05, *off])
    masked = [[float("nan") if i == j else values[i][j] for j in range(size)] for i in range(size)]
    colours = mpl.colormaps["PuOr_r"].with_extremes(bad="#d9d9d9")
    image = axes.imshow(masked, cmap=colours, vmin=-limit, vmax=limit)
    for i in range(size):
        for j in range(size):
            dark = i != j and abs(values[i][j]) > 0.72 * limit
            cell = "1" if i == j else _hundredths(values[i][j])
            axes.text(j, i, cell, ha="center", va="center", fontsize=8.5, color="white" if dark else INK)
    axes.set_xticks(range(size), names)
    axes.set_yticks(range(size), names)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.85, aspect=25)
    bar.outline.set_visible(False)
    bar.set_label(label, fontsize=8.5)
    bar.ax.tick_params(labelsize=8)
    return figure


def _hundredths(value: float) -> str:
    """Write a number with two decimals; one that rounds to zero has no sign.

    >>> _hundredths(-0.004), _hundredths(-0.011)
    ('0.00', '−0.01')
    """
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def rank_plot(names: Sequence[str], ranks: Sequence[float], critical_difference: float) -> Figure:
    """Draw mean ranks, best first, with bars as long as the critical difference over two.

    Two treatments whose bars do not meet differ by more than the critical difference.
    """
    order = sorted(range(len(names)), key=lambda place: ranks[place])
    figure, axes = canvas(6.6, 0.9 + 0.27 * len(names))
    places = range(len(order))
    axes.errorbar(
        [ranks[place] for place in order], places, xerr=critical_difference / 2, fmt="o", ms=5, color=BLUE,
        ecolor=BLUE, elinewidth=1.4, capsize=3,
    )  # fmt: skip
    best = ranks[order[0]] + critical_difference
    axes.axvline(best, color=VERMILION, lw=1, ls="--")
    axes.set_title(
        f"right of the dashed line: worse than the first by more than the critical difference, "
        f"{critical_difference:.1f}", fontsize=7.5, color=INK, loc="left",
    )  # fmt: skip
    axes.set_yticks(list(places), [names[place] for place in order])
    axes.invert_yaxis()
    # No bar is cut: that of a low mean rank may reach below 0.
    axes.set_xlim(left=min(0, ranks[order[0]] - critical_difference / 2 - 0.05 * len(order)))
    axes.set_xlabel("mean rank (1 is best)", fontsize=8.5, color=INK)
    axes.grid(axis="x", color="#e5e5e5", lw=0.6)
    return figure


__all__ = [
    "BLUE",
    "COLOURS",
    "GREEN",
    "GREY",
    "ORANGE",
    "SKY",
    "VERMILION",
    "canvas",
    "grouped_points",
    "heat_map",
    "lines",
    "plain",
    "png",
    "rank_plot",
    "ranked_points",
]
