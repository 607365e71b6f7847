"""``carrick plan``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.adapter_plan import say_adapter_plan
from carrick.cli.options import Download, Memory, Seed, ShardSize, Threads  # noqa: TC001  (typer reads the annotations)
from carrick.cli.output import WIDTH, note, notes, say, say_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.merging.plan import AdapterPlan
    from carrick.plan import Plan


def plan(  # noqa: PLR0917  (typer reads options from the signature)
    config: Annotated[Path, typer.Argument(help="A YAML file, mergekit's or ours.")],
    out: Annotated[
        Path | None, typer.Argument(help="The output folder, to check the room on its disk as well.")
    ] = None,
    memory: Memory = None,
    threads: Threads = None,
    shard_size: ShardSize = None,
    seed: Seed = None,
    download: Download = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the whole plan; `carrick merge --plan` runs those of checkpoints."
        ),
    ] = False,
) -> None:
    """Show what a merge would do.

    Tensors per method, bytes to read and write, passes, peak memory, disk, and what matches nothing; of adapters
    the modules and their ranks: from the headers alone, in moments.
    """
    from carrick.home import absolute  # noqa: PLC0415
    from carrick.merge import plan_documents  # noqa: PLC0415
    from carrick.output_folder import must_be_forced  # noqa: PLC0415

    plans = plan_documents(
        config, out, memory=memory, threads=threads, shard_size=shard_size, seed=seed, download=download
    )
    if out is not None and must_be_forced(absolute(out)):
        note(f"{out} exists already: to replace it the merge needs --force")
    if as_json:
        notes(note for each in plans for note in each.notes)
        contents = [each.as_dict() for each in plans]
        say_json(contents if len(contents) > 1 else contents[0])
    else:
        say_plans(plans, out, memory, threads)


def say_plans(
    plans: Sequence[Plan | AdapterPlan], out: Path | None, memory: str | None, threads: int | None
) -> None:
    """Print plans for people, one for each document, with what they take of memory and threads."""
    from rich.console import Console  # noqa: PLC0415

    from carrick.merge import engine_options  # noqa: PLC0415
    from carrick.plan import Plan, estimate_of  # noqa: PLC0415
    from carrick.plan.text import plan_text  # noqa: PLC0415

    engine, capped = engine_options(memory, threads)
    notes(capped)
    console = Console(width=WIDTH, highlight=False, soft_wrap=False)
    for number, each in enumerate(plans):
        if number:
            say()
        place = out if number == len(plans) - 1 else None
        if isinstance(each, Plan):
            console.print(plan_text(each, place, estimate_of(each, asdict(engine))))
        else:
            say_adapter_plan(each, place)
