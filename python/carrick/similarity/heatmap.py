"""A picture of a comparison: a heat map of all of the model, and a small one for each kind of module."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING

from carrick.errors import ConfigError
from carrick.home import expanded

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.image import AxesImage

    from carrick.similarity.result import Likeness, Similarity

FORMATS = (".png", ".svg")
_MOST_PANELS = 12
_COLUMNS = 4
# A reader tells these apart whatever the eyes; zero is white.
_COLOURS = "PuOr_r"
_INK, _SAME = "#1a1a1a", "#d9d9d9"
_SCALES = (0.05, 0.1, 0.2, 0.5, 1.0)


def check_plot(path: str | Path) -> Path:
    """Check that a picture can be drawn there, before anything is read.

    Raises
    ------
    ConfigError
        No matplotlib, a format that is neither PNG nor SVG, or no such folder.
    """
    target = expanded(path)
    if target.suffix.lower() not in FORMATS:
        raise ConfigError(f"{path}: a heat map is a .png or a .svg file; name one")
    if not target.absolute().parent.is_dir():
        raise ConfigError(f"{path}: there is no folder {target.absolute().parent}; make it first")
    if find_spec("matplotlib") is None:
        raise ConfigError(
            "a heat map is drawn with matplotlib, which is not installed: pip install 'carrick[plot]'"
        )
    return target


def plot(similarity: Similarity, path: str | Path) -> None:
    """Draw the cosine similarities as a heat map.

    The diagonal is grey; the colours reach as far as the largest value beside it, the same in all panels. The
    modules with the most parameters are shown where there are more than twelve kinds.

    Parameters
    ----------
    similarity
        What `carrick.similarity` returned.
    path
        A .png or .svg file, which is replaced.

    Raises
    ------
    ConfigError
        No matplotlib, a format that is neither PNG nor SVG, or no such folder.

    Examples
    --------
    >>> import carrick                                                         # doctest: +SKIP
    >>> plot(carrick.similarity(["en", "de", "fr"]), "likeness.png")           # doctest: +SKIP
    """
    target = check_plot(path)
    import matplotlib as mpl  # noqa: PLC0415  (an extra, wanted here alone)

    with mpl.rc_context({"svg.hashsalt": "carrick", "svg.fonttype": "none", "font.size": 9}):
        figure = draw(similarity)
        # Without a date, the same comparison is the same file.
        metadata = {"Date": None} if target.suffix.lower() == ".svg" else {}
        figure.savefig(target, dpi=160, metadata=metadata)


def draw(similarity: Similarity) -> Figure:
    """Draw the figure that `plot` saves."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels = _largest(similarity.by_module)
    limit = colour_limit([similarity.whole, *panels])
    models = len(similarity.models)
    columns = min(len(panels), _COLUMNS)
    rows = math.ceil(len(panels) / _COLUMNS)
    large, small = max(3.4, 0.62 * models + 1.6), max(1.45, 0.36 * models + 0.45)
    figure = Figure(figsize=(large + 1.6 + columns * small, max(large + 0.5, rows * small + 0.6)))
    figure.set_layout_engine("constrained")
    if not panels:
        _draw_whole(figure, similarity, limit)
        return figure
    widths = [large + 1.6, columns * small]
    sides = figure.subfigures(1, 2, squeeze=False, width_ratios=widths)[0]
    _draw_whole(sides[0], similarity, limit)
    size = 7 if models <= 4 else 5.5 if models <= 6 else 0
    for place, part in enumerate(panels):
        axes = sides[1].add_subplot(rows, columns, place + 1)
        _panel(axes, part, limit, size)
        axes.set_title(_short(part.name), fontsize=8, color=_INK)
        axes.set_xticks([])
        axes.set_yticks([])
    return figure


def _largest(parts: Sequence[Likeness]) -> list[Likeness]:
    """Choose the parts that get a panel, in their order: none where there is only one."""
    chosen = sorted(parts, key=lambda part: -part.elements)[:_MOST_PANELS]
    return [part for part in parts if part in chosen] if len(parts) > 1 else []


def _draw_whole(figure: Figure | SubFigure, similarity: Similarity, limit: float) -> None:
    models = len(similarity.models)
    axes = figure.add_subplot()
    image = _panel(axes, similarity.whole, limit, 9 if models <= 10 else 6)
    axes.set_title("cosine similarity of task vectors", fontsize=10, color=_INK)
    names = [_short(name) for name in similarity.models]
    axes.set_xticks(range(models), names, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(models), names)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30)
    bar.outline.set_visible(False)


def colour_limit(parts: Sequence[Likeness]) -> float:
    """Where the colours end: just beyond the largest cosine beside the diagonals.

    Examples
    --------
    >>> from carrick.similarity.result import Likeness
    >>> colour_limit([Likeness("model", 9, [1.0, 2.0], [[1.0, -0.13], [-0.13, 1.0]])])
    0.2
    """
    largest = max(
        (
            abs(value)
            for part in parts
            for i, row in enumerate(part.cosine)
            for j, value in enumerate(row)
            if i != j
        ),
        default=0.0,
    )
    return next((scale for scale in _SCALES if largest <= scale), 1.0)


def _panel(axes: Axes, part: Likeness, limit: float, size: float) -> AxesImage:
    """Draw one matrix, with its values in the cells where `size` (of the text) is not 0."""
    import matplotlib as mpl  # noqa: PLC0415

    colours = mpl.colormaps[_COLOURS].with_extremes(bad=_SAME)
    masked = [[math.nan if i == j else v for j, v in enumerate(row)] for i, row in enumerate(part.cosine)]
    image = axes.imshow(masked, cmap=colours, vmin=-limit, vmax=limit)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0, colors=_INK)
    for i, row in enumerate(part.cosine):
        for j, value in enumerate(row):
            if size:
                ink = "white" if i != j and _is_dark(colours((value / limit + 1) / 2)) else "black"
                axes.text(j, i, _text(value, limit), ha="center", va="center", fontsize=size, color=ink)
    return image


def _is_dark(colour: Sequence[float]) -> bool:
    """Tell whether white reads better on a colour than black: where their contrasts are equal, both are 4.58."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] < 0.179


def _text(value: float, limit: float) -> str:
    if value in {0.0, 1.0}:
        return f"{value:.0f}"
    digits = 3 if limit < 0.1 else 2
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no minus in front of zero


def _short(name: str, width: int = 24) -> str:
    return name if len(name) <= width else f"{name[: width - 12]}…{name[-11:]}"
