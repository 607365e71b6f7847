"""``carrick adapters apply``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer

from carrick.cli.merge import say_report
from carrick.cli.options import Download, Memory, Read, ReadBy, Threads
from carrick.cli.output import notes, say_json
from carrick.cli.progress import ByteProgress


def apply(  # noqa: PLR0917  (typer reads options from the signature)
    base: Annotated[str, typer.Argument(help="A model folder, a .safetensors file, or a Hub id.")],
    adapters: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER[:WEIGHT]", help="PEFT folders or Hub ids, with a weight where it is not 1."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The output folder.")],
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Element type of the output; default: the base's.")
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    shard_size: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="Largest shard of the output; default: the base's shards."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Recorded, default 0; nothing is drawn at random, so it changes no weight."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is already at OUT.")] = False,
    read: ReadBy = Read.AUTO,
    check_finite: Annotated[
        bool, typer.Option("--check-finite", help="Refuse inputs with NaN or infinities.")
    ] = False,
    download: Download = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Fold LoRA adapters into BASE, streamed.

    W + Σ weight·s·B·A is computed in float32 and rounded once. The weight of an adapter is what follows its
    last colon, when that is a number. Interrupted, the same command again goes on where it stopped.
    """
    from carrick.adapters.apply import apply as run  # noqa: PLC0415

    with ByteProgress("apply") as bar:
        report = run(
            base,
            adapters,
            out,
            dtype=dtype,
            memory=memory,
            threads=threads,
            shard_size=shard_size,
            seed=seed,
            force=force,
            read=read.value,
            check_finite=check_finite,
            download=download,
            progress=bar.watch,
        )
    notes(report.notes)
    if as_json:
        say_json(report.to_dict())
    else:
        say_report(report, out)
