"""``carrick similarity``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.options import Download, Memory, Threads  # noqa: TC001  (typer reads the annotations)
from carrick.cli.output import count, note, notes, parameters, say, say_json, shorten, table
from carrick.cli.progress import ByteProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from carrick.similarity import Likeness, Similarity

_MOST_MODELS = 8
_MOST_PAIRS_IN_COLUMNS = 6
_LISTED_PAIRS = 5
_NAME = 28


class By(StrEnum):
    """What the parts of the model are."""

    LAYER = "layer"
    MODULE = "module"
    TENSOR = "tensor"


def similarity(  # noqa: PLR0917  (typer reads options from the signature)
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL",
            help="Two or more checkpoints, also BASE+ADAPTER[:WEIGHT]; or two or more adapters.",
        ),
    ],
    base: Annotated[
        str | None,
        typer.Option(metavar="BASE", help="What checkpoints were trained from; adapters need none."),
    ] = None,
    by: Annotated[By | None, typer.Option(help="Show each layer, kind of module or tensor too.")] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw a heat map, PNG or SVG (carrick[plot]).")
    ] = None,
    signs: Annotated[
        bool | None,
        typer.Option("--signs/--no-signs", help="Count sign conflicts; default: of checkpoints only."),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="REGEX", help="Leave out what this is found in the name of; can be repeated."),
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    download: Download = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON, with every layer, module and tensor.")
    ] = False,
) -> None:
    """Compare what fine-tuning changed in models, pair by pair.

    Cosine similarity of their task vectors, with norms and the share of entries whose signs differ.
    """
    from carrick.similarity import similarity as compare  # noqa: PLC0415
    from carrick.similarity.heatmap import check_plot  # noqa: PLC0415
    from carrick.similarity.heatmap import plot as draw  # noqa: PLC0415

    if plot is not None:
        check_plot(plot)
    with ByteProgress("compare") as bar:
        found = compare(
            models,
            base,
            signs=signs,
            exclude=exclude or [],
            memory=memory,
            threads=threads,
            download=download,
            progress=bar.watch,
        )
    notes(found.notes)
    if plot is not None:
        draw(found, plot)
        note(f"the heat map is {plot}")
    if as_json:
        say_json(found.to_dict())
    else:
        _say(found, by)


def _say(found: Similarity, by: By | None) -> None:
    whole = found.whole
    against = f" against {found.base}" if found.base else ""
    say(f"{count(len(found.models), 'model')}{against}: {parameters(whole.elements)} entries each")
    say()
    if len(found.models) <= _MOST_MODELS:
        _matrix("cosine similarity", found, whole.cosine, "{:.4f}".format)
        if whole.sign_conflicts is not None:
            say()
            _matrix("sign conflicts", found, whole.sign_conflicts, "{:.2%}".format)
    else:
        _extremes(found)
    if by is not None:
        say()
        parts = {By.LAYER: found.by_layer, By.MODULE: found.by_module, By.TENSOR: found.by_tensor}[by]
        _parts(by, found, parts)


def _matrix(
    title: str, found: Similarity, values: Sequence[Sequence[float]], text: Callable[[float], str]
) -> None:
    numbers = [str(number + 1) for number in range(len(found.models))]
    rows = [
        [number, shorten(name, _NAME), f"{norm:.4g}", *map(text, row)]
        for number, name, norm, row in zip(numbers, found.models, found.whole.norms, values, strict=True)
    ]
    width = len(numbers)
    for line in table(["", title, "norm", *numbers], rows, numbers=[0, *range(2, width + 3)]):
        say(line)


def _pairs(found: Similarity) -> list[tuple[int, int]]:
    models = range(len(found.models))
    return [(i, j) for i in models for j in models if i < j]


def _extremes(found: Similarity) -> None:
    """List the most and the least alike of many models; the matrix would not fit."""
    whole = found.whole
    ranked = sorted(_pairs(found), key=lambda pair: -whole.cosine[pair[0]][pair[1]])
    shown = ranked[:_LISTED_PAIRS] + ranked[-_LISTED_PAIRS:]
    rows = [
        [
            found.models[i],
            found.models[j],
            f"{whole.cosine[i][j]:.4f}",
            "" if whole.sign_conflicts is None else f"{whole.sign_conflicts[i][j]:.2%}",
        ]
        for i, j in shown
    ]
    for line in table(["most alike", "", "cosine", "sign conflicts"], rows[:_LISTED_PAIRS], numbers=[2, 3]):
        say(line)
    say()
    for line in table(["least alike", "", "cosine", "sign conflicts"], rows[_LISTED_PAIRS:], numbers=[2, 3]):
        say(line)
    say()
    say(f"of {count(len(ranked), 'pair')}; --json lists all")


def _parts(by: By, found: Similarity, parts: Sequence[Likeness]) -> None:
    pairs = _pairs(found)
    if len(pairs) <= _MOST_PAIRS_IN_COLUMNS:
        head = [f"{i + 1}·{j + 1}" for i, j in pairs]
        cells = [[f"{part.cosine[i][j]:.4f}" for i, j in pairs] for part in parts]
        if len(pairs) == 1:
            head = ["cosine", "norm 1", "norm 2"]
            cells = [
                [*row, *(f"{norm:.4g}" for norm in part.norms)]
                for row, part in zip(cells, parts, strict=True)
            ]
    else:
        head, cells = ["least", "mean", "most"], []
        for part in parts:
            values = [part.cosine[i][j] for i, j in pairs]
            cells.append([f"{value:.4f}" for value in (min(values), sum(values) / len(values), max(values))])
    if found.whole.sign_conflicts is not None:
        head.append("conflicts")
        cells = [[*row, f"{_mean_conflict(part, pairs):.2%}"] for row, part in zip(cells, parts, strict=True)]
    rows = [[part.name, *row] for part, row in zip(parts, cells, strict=True)]
    for line in table([by.value, *head], rows, numbers=range(1, len(head) + 1)):
        say(line)


def _mean_conflict(part: Likeness, pairs: Sequence[tuple[int, int]]) -> float:
    conflicts = part.sign_conflicts or []
    return sum(conflicts[i][j] for i, j in pairs) / len(pairs)
