"""``carrick compare``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.output import count, say, say_json, table
from carrick.cli.progress import ByteProgress

if TYPE_CHECKING:
    from carrick.compare import Comparison, TensorComparison

_MOST_ROWS = 40


def compare(
    a: Annotated[str, typer.Argument(help="A model folder, a safetensors file, or a Hub id in the cache.")],
    b: Annotated[str, typer.Argument(help="What it is compared with.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor, equal ones too.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch models from the Hub that are not in the local cache.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> int:
    """Compare two checkpoints tensor by tensor.

    Equal bytes, largest and mean difference, what is missing. The exit code is 0 when they are the same and 1
    when they differ.
    """
    from carrick.compare import compare as look  # noqa: PLC0415

    with ByteProgress("compare") as bar:
        found = look(
            a, b, download=download, progress=lambda name, done, total: bar.update(done, total, name)
        )
    if as_json:
        say_json(found.to_dict())
    else:
        _say(found, everything=tensors)
    return 0 if found.same else 1


def _say(found: Comparison, *, everything: bool) -> None:
    shown = [t for t in found.tensors if everything or t.status != "equal"]
    listed = shown if everything else shown[:_MOST_ROWS]
    if listed:
        head = ["tensor", "status", "A", "B", "largest", "mean", "NaN"]
        for line in table(head, [_row(t) for t in listed], numbers=[4, 5, 6]):
            say(line)
        if len(shown) > len(listed):
            say(f"… and {count(len(shown) - len(listed), 'tensor')} more: --tensors lists all")
        say()
    if found.same:
        say(f"the same: {count(len(found.tensors), 'tensor')}, all bytes equal")
    else:
        parts = [f"{found.count('equal'):,} of {count(len(found.tensors), 'tensor')} equal"]
        for status in ("differs", "dtype", "shape", "only in A", "only in B"):
            number = found.count(status)
            if number:
                parts.append(f"{number:,} {_WORDS[status]}")
        say(", ".join(parts))


_WORDS = {
    "differs": "other values",
    "dtype": "other type",
    "shape": "other shape",
    "only in A": "only in A",
    "only in B": "only in B",
}


def _row(tensor: TensorComparison) -> list[str]:
    alike = tensor.a == tensor.b
    largest, mean = (
        "" if value is None or tensor.status == "equal" else f"{value:.3g}"
        for value in (tensor.max_abs, tensor.mean_abs)
    )
    nan = f"{tensor.nan:,}" if tensor.nan else ""
    return [tensor.name, tensor.status, tensor.a, "same" if alike else tensor.b, largest, mean, nan]
