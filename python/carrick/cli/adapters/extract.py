"""``carrick adapters extract``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated

import typer

from carrick.cli.options import Download, Memory, Threads  # noqa: TC001  (typer reads the annotations)
from carrick.cli.output import count, notes, say, say_json, table
from carrick.cli.progress import ByteProgress

if TYPE_CHECKING:
    from carrick.adapters.merging.run import AdapterReport


class Saved(StrEnum):
    """What becomes of tensors that have no factors."""

    DIFFERING = "differing"
    NONE = "none"


def extract(  # noqa: PLR0917  (typer reads options from the signature)
    base: Annotated[str, typer.Argument(help="The model that was tuned: a folder, a file, or a Hub id.")],
    tuned: Annotated[str, typer.Argument(help="What it became.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The output folder.")],
    rank: Annotated[
        int | None, typer.Option("--rank", "-r", metavar="R", help="Rank of the factors.")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(metavar="E", help="Or the share of Σσ² that each module keeps.")
    ] = None,
    rank_of: Annotated[
        list[str] | None,
        typer.Option(
            "--rank-of", metavar="PATTERN=R", help="Another rank for some modules; may be repeated."
        ),
    ] = None,
    modules: Annotated[
        list[str] | None,
        typer.Option("--modules", metavar="PATTERN", help="Modules to extract; default: all that differ."),
    ] = None,
    modules_to_save: Annotated[
        Saved,
        typer.Option("--modules-to-save", help="Store embeddings, norms and biases that differ, or none."),
    ] = Saved.DIFFERING,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compute whole spectra instead of leading directions.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Element type of the output; default: as the tuned model."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Key of the random directions that the search begins with.")
    ] = 0,
    memory: Memory = None,
    threads: Threads = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is already at OUT.")] = False,
    download: Download = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write the difference between TUNED and BASE as a LoRA adapter.

    Matrices of the layers become low-rank factors, with the error of each module in the report; embeddings, norms
    and biases that differ are stored whole; what is equal is left out.
    """
    from carrick.adapters.extract import extract as run  # noqa: PLC0415

    with ByteProgress("extract") as bar:
        report = run(
            base,
            tuned,
            out,
            rank=rank,
            energy=energy,
            rank_of=_ranks(rank_of or []),
            modules=modules or None,
            modules_to_save=modules_to_save.value,
            exact=exact,
            dtype=dtype,
            seed=seed,
            memory=memory,
            threads=threads,
            force=force,
            download=download,
            progress=bar.watch,
        )
    notes(report.notes)
    if as_json:
        say_json(report.to_dict())
    else:
        _say(report, out)


def _ranks(pairs: list[str]) -> dict[str, int]:
    from carrick.errors import ConfigError  # noqa: PLC0415

    given: dict[str, int] = {}
    for pair in pairs:
        pattern, equals, rank = pair.rpartition("=")
        if not equals or not pattern or not rank.strip().isdecimal():
            raise ConfigError(f"--rank-of is {pair!r}; write --rank-of PATTERN=R, as in --rank-of q_proj=16")
        if pattern in given:
            raise ConfigError(f"--rank-of {pattern} is given twice; give it once")
        given[pattern] = int(rank)
    return given


def _say(report: AdapterReport, out: Path) -> None:
    from carrick.memory import format_size  # noqa: PLC0415

    say(
        f"{out}: {count(report.tensors, 'tensor')}, {format_size(report.bytes_written)} written in "
        f"{report.seconds:.2f} s by {count(report.threads, 'thread')} with {report.simd}"
    )
    changed = [module for module in report.modules if module["rank"]]
    rows = [
        [
            module["path"],
            f"{module['rank']:,}",
            f"{module['norm']:.3g}",
            f"{module['error']:.4f}" if module["error"] >= 1e-4 else f"{module['error']:.1e}",
            module["route"],
        ]
        for module in changed
    ]
    say()
    for line in table(["module", "rank", "‖ΔW‖", "error", "route"], rows, numbers=[1, 2, 3]):
        say(line)
    equal = len(report.modules) - len(changed)
    if equal:
        say(f"{count(equal, 'module')} equal in both models")
