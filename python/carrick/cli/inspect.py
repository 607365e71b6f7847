"""``carrick inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.output import count, fields, notes, parameters, say, say_json, table

if TYPE_CHECKING:
    from carrick.inspect import Inspection


def inspect(
    path: Annotated[
        str, typer.Argument(help="A model folder, a safetensors file, or a Hub id in the cache.")
    ],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a model from the Hub that is not in the local cache.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a checkpoint holds.

    Tensors, element types, sizes, layers and the kind of model, from the headers alone.
    """
    from carrick.inspect import inspect as look  # noqa: PLC0415

    found = look(path, download=download)
    notes(found.notes)
    if as_json:
        say_json(found.to_dict())
        return
    _say_summary(found)
    for block in (_by_dtype(found), _by_group(found), _all(found) if tensors else []):
        for line in ["", *block] if block else []:
            say(line)


def _say_summary(found: Inspection) -> None:
    from carrick.memory import format_size  # noqa: PLC0415

    layers = ", ".join(f"{number} ({prefix})" for prefix, number in found.layers.items())
    pairs = [
        ("model", found.name),
        ("kind", found.kind),
        ("layers", layers or "none"),
        ("parameters", parameters(found.elements)),
        ("size", f"{format_size(found.nbytes)} in {count(len(found.files), 'file')}"),
    ]
    if found.tied is not None:
        pairs.append(("embeddings", "tied" if found.tied else "not tied"))
    if found.quantization is not None:
        pairs.append(("quantization", found.quantization))
    if found.revision is not None:
        pairs.append(("revision", found.revision))
    for line in fields(pairs):
        say(line)


def _by_dtype(found: Inspection) -> list[str]:
    from carrick.memory import format_size  # noqa: PLC0415

    rows = [
        [g.label, f"{g.tensors:,}", parameters(g.elements), format_size(g.nbytes)] for g in found.by_dtype
    ]
    return table(["dtype", "tensors", "parameters", "size"], rows, numbers=[1, 2, 3])


def _by_group(found: Inspection) -> list[str]:
    from carrick.memory import format_size  # noqa: PLC0415

    rows = [
        [
            group.label,
            f"{group.layers:,}" if group.layers else "",
            f"{group.tensors:,}",
            " ".join(group.dtypes),
            parameters(group.elements),
            format_size(group.nbytes),
        ]
        for group in found.by_group
    ]
    return table(["part", "layers", "tensors", "dtype", "parameters", "size"], rows, numbers=[1, 2, 4, 5])


def _all(found: Inspection) -> list[str]:
    from carrick.memory import format_size  # noqa: PLC0415

    rows = [[t.name, t.dtype, str(list(t.shape)), format_size(t.nbytes), t.file] for t in found.tensors]
    return table(["tensor", "dtype", "shape", "size", "file"], rows, numbers=[3])
