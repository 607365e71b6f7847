"""``carrick merge``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.options import Download, Memory, Read, ReadBy, Seed, ShardSize, Threads
from carrick.cli.output import count, notes, say, say_json
from carrick.cli.progress import ByteProgress

if TYPE_CHECKING:
    from carrick.report import MergeReport


def merge(  # noqa: PLR0917  (typer reads options from the signature)
    config: Annotated[
        Path | None, typer.Argument(help="A YAML file, mergekit's or ours; left out with --plan.")
    ] = None,
    out: Annotated[Path | None, typer.Argument(help="The output folder.")] = None,
    memory: Memory = None,
    threads: Threads = None,
    shard_size: ShardSize = None,
    seed: Seed = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Plan and check everything, write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a model that is already at OUT.")] = False,
    plan: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Run a plan saved with `carrick plan --json`.")
    ] = None,
    read: ReadBy = Read.AUTO,
    check_finite: Annotated[
        bool, typer.Option("--check-finite", help="Refuse inputs with NaN or infinities.")
    ] = False,
    hash_inputs: Annotated[
        bool,
        typer.Option("--hash-inputs", help="Record a checksum of every input file (reads them once more)."),
    ] = False,
    keep_intermediates: Annotated[
        bool, typer.Option("--keep-intermediates", help="Leave the models of named documents beside OUT.")
    ] = False,
    download: Download = False,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Of adapters: cpu, or a torch device (cuda, torch:cpu).")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Merge the models of CONFIG into OUT.

    CONFIG is a YAML file, mergekit's or ours. Interrupted, the same command again goes on where it stopped.
    """
    source, target = _config_and_out(config, out, has_plan=plan is not None)
    from carrick.merge import merge as run  # noqa: PLC0415

    with ByteProgress("merge") as bar:
        report = run(
            source,
            target,
            memory=memory,
            threads=threads,
            shard_size=shard_size,
            seed=seed,
            dry_run=dry_run,
            force=force,
            read=read.value,
            check_finite=check_finite,
            hash_inputs=hash_inputs,
            keep_intermediates=keep_intermediates,
            download=download,
            device=device,
            progress=bar.watch,
            plan=plan,
        )
    if as_json:
        notes(report.notes)
        say_json(report.to_dict())
    elif dry_run:
        from carrick.cli.plan import say_plans  # noqa: PLC0415

        say_plans(report.plans, target, memory, threads)
        say()
        say(f"nothing was written: without --dry-run this makes {target}")
    else:
        notes(report.notes)
        say_report(report, target)


def _config_and_out(first: Path | None, second: Path | None, *, has_plan: bool) -> tuple[Path | None, Path]:
    """Tell the arguments apart: with a plan the output folder stands alone."""
    from carrick.errors import ConfigError  # noqa: PLC0415

    if has_plan:
        if first is None:
            raise ConfigError("name the output folder: carrick merge --plan FILE OUT")
        if second is not None:
            raise ConfigError("a plan needs no configuration: carrick merge --plan FILE OUT")
        return None, first
    if first is None or second is None:
        raise ConfigError("give a configuration and an output folder: carrick merge CONFIG OUT")
    return first, second


def say_report(report: MergeReport, out: Path) -> None:
    """Print what a merge of checkpoints did, for people."""
    from carrick.memory import format_size  # noqa: PLC0415

    moved = report.bytes_read + report.bytes_written
    rate = format_size(moved / max(report.seconds, 1e-9))
    how = f"{count(report.threads, 'thread')} with {report.simd}"
    output = report.plans[-1].bytes_written if report.plans else report.bytes_written
    say(f"{out}: {count(report.tensors, 'tensor')}, {format_size(output)} written")
    say(f"{format_size(moved)} moved in {report.seconds:.2f} s, {rate}/s, by {how}")
    if report.resumed:
        say(f"{count(report.resumed, 'tensor')} had been finished by an earlier run")
