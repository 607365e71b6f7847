"""``carrick adapters inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.output import count, fields, notes, parameters, say, say_json, table

if TYPE_CHECKING:
    from carrick.adapters.inspect import AdapterInspection


def inspect(
    path: Annotated[str, typer.Argument(help="A PEFT folder, or a Hub id in the cache.")],
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Which one, where a folder holds several adapters."),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch an adapter from the Hub that is not in the local cache.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what an adapter holds.

    Base, ranks, scales, modules by type and what was trained beside them, from the headers alone.
    """
    from carrick.adapters.inspect import inspect as look  # noqa: PLC0415

    found = look(path, name=name, download=download)
    notes(found.notes)
    if as_json:
        say_json(found.to_dict())
        return
    for line in fields(_summary(found)):
        say(line)
    for block in (_patterns(found), _modules(found), _extras(found)):
        for line in ["", *block] if block else []:
            say(line)


def _summary(found: AdapterInspection) -> list[tuple[str, str]]:
    from carrick.memory import format_size  # noqa: PLC0415

    scale = found.lora_alpha / (found.r**0.5 if found.rslora else found.r)
    base = found.base or "not named"
    variants = [word for word, on in (("rsLoRA", found.rslora), ("DoRA", found.dora)) if on]
    pairs = [
        ("adapter", found.name),
        ("base", f"{base} at {found.base_revision}" if found.base_revision else base),
        ("task", found.task or "not named"),
        ("rank", f"{found.r}, α {found.lora_alpha:g}, scale {scale:.4g}"),
        ("variant", " with ".join(variants) or "LoRA"),
        ("modules", f"{found.modules:,}"),
        ("parameters", parameters(found.parameters)),
        ("size", f"{format_size(found.nbytes)} in {count(len(found.files), 'file')}"),
    ]
    if found.lora_bias:
        pairs.append(("bias of B", "yes"))
    if found.bias != "none":
        pairs.append(("biases", found.bias))
    if found.fan_in_fan_out:
        pairs.append(("weights", "stored as (in, out): fan_in_fan_out"))
    if found.revision is not None:
        pairs.append(("revision", found.revision))
    return pairs


def _patterns(found: AdapterInspection) -> list[str]:
    named = dict.fromkeys([*found.rank_pattern, *found.alpha_pattern])
    rows = [
        [pattern, _shown(found.rank_pattern.get(pattern)), _shown(found.alpha_pattern.get(pattern))]
        for pattern in named
    ]
    return table(["pattern", "rank", "α"], rows, numbers=[1, 2]) if rows else []


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _modules(found: AdapterInspection) -> list[str]:
    from carrick.memory import format_size  # noqa: PLC0415

    rows = [
        [
            group.type + ("" if group.kind == "linear" else f" ({group.kind})"),
            f"{group.modules:,}",
            f"{group.rank:,}",
            f"{group.alpha:g}",
            f"{group.scale:.4g}",
            f"{group.shape[0]:,} × {group.shape[1]:,}",
            group.dtype,
            parameters(group.parameters),
            format_size(group.nbytes),
        ]
        for group in found.groups
    ]
    head = ["module", "count", "rank", "α", "scale", "ΔW", "dtype", "parameters", "size"]
    return table(head, rows, numbers=[1, 2, 3, 4, 7, 8]) if rows else []


def _extras(found: AdapterInspection) -> list[str]:
    from carrick.memory import format_size  # noqa: PLC0415

    rows = [
        [
            extra.sort,
            f"{len(extra.names):,}",
            parameters(extra.parameters),
            format_size(extra.nbytes),
            _names(extra.names),
        ]
        for extra in found.extras
    ]
    return (
        table(["beside LoRA", "tensors", "parameters", "size", "names"], rows, numbers=[1, 2, 3])
        if rows
        else []
    )


def _names(names: list[str]) -> str:
    return ", ".join(names[:2]) + (", …" if len(names) > 2 else "")
