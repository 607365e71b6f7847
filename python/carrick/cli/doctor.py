"""``carrick doctor``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer

from carrick.cli.output import fields, say, say_json


def doctor(
    path: Annotated[
        Path | None, typer.Argument(help="A folder whose disk is measured with a file of 256 MB.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what this machine offers.

    Instruction set, threads, memory limit, build, and with PATH the speed of that folder's disk.
    """
    from carrick.doctor import diagnose  # noqa: PLC0415
    from carrick.memory import format_memory, format_size  # noqa: PLC0415

    found = diagnose(path)
    if as_json:
        say_json(found.to_dict())
        return
    limit = "none" if found.memory_limit is None else format_memory(found.memory_limit)
    rows = [
        ("carrick", found.version),
        ("python", found.python),
        ("system", found.system),
        ("instruction set", f"{found.simd} (of {', '.join(found.simd_available)})"),
        ("threads", str(found.threads)),
        ("memory limit", limit),
        ("memory budget", format_memory(found.memory_budget)),
        *((f"build {name}", str(value)) for name, value in found.build.items()),
    ]
    if found.disk is not None:
        how = "past the page cache" if found.disk.direct else "through the page cache"
        rows += [
            ("folder", found.disk.folder),
            ("disk write", f"{format_size(found.disk.write)}/s, {how}"),
            ("disk read", f"{format_size(found.disk.read)}/s, {how}"),
            ("disk free", format_size(found.disk.free)),
        ]
    for line in fields(rows):
        say(line)
