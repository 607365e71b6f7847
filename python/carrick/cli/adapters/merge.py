"""``carrick adapters merge``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrick.cli.options import Download, Memory, Seed, Threads  # noqa: TC001  (typer reads the annotations)
from carrick.cli.output import count, notes, say, say_json, table
from carrick.cli.progress import ByteProgress

if TYPE_CHECKING:
    from carrick.adapters.merging.run import AdapterReport
    from carrick.report import MergeReport

_SHOWN = 12


class Space(StrEnum):
    """What is merged."""

    DELTA = "delta"
    FACTORS = "factors"


class Precision(StrEnum):
    """Type of a decomposition's products."""

    FLOAT32 = "float32"
    FLOAT64 = "float64"


def merge(  # noqa: PLR0917  (typer reads options from the signature)
    adapters: Annotated[
        list[str],
        typer.Argument(
            metavar="ADAPTER[:WEIGHT]", help="PEFT folders or Hub ids, with a weight where it is not 1."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="The output folder.")],
    method: Annotated[
        str, typer.Option("--method", "-m", metavar="NAME", help="`carrick methods` lists them.")
    ] = "cat",
    weights: Annotated[
        str | None, typer.Option(metavar="W,W,…", help="One for each adapter, if none is in its name.")
    ] = None,
    density: Annotated[
        float | None, typer.Option(metavar="D", help="Fraction of each update that is kept.")
    ] = None,
    rank: Annotated[
        int | None, typer.Option("--rank", "-r", metavar="R", help="Cut the result to its best rank R.")
    ] = None,
    energy: Annotated[
        float | None, typer.Option(metavar="E", help="Or to the rank with this share of Σσ².")
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", metavar="NAME=VALUE", help="Any parameter that `carrick methods NAME` lists."),
    ] = None,
    space: Annotated[
        Space, typer.Option(help="Merge ΔW = s·B·A, or A and B apart as PEFT does.")
    ] = Space.DELTA,
    base: Annotated[
        str | None, typer.Option(metavar="BASE", help="The base, for --dense or --modules-to-save merge.")
    ] = None,
    dense: Annotated[
        bool, typer.Option("--dense", help="Merge into BASE and write a checkpoint, not an adapter.")
    ] = False,
    modules_to_save: Annotated[
        str,
        typer.Option(
            "--modules-to-save",
            metavar="WHAT",
            help="refuse, merge, or the adapter to keep saved modules from.",
        ),
    ] = "refuse",
    precision: Annotated[
        Precision, typer.Option(help="Type of a decomposition's products.")
    ] = Precision.FLOAT32,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="cpu (the core), or a torch device: cuda, torch:cpu.")
    ] = "cpu",
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Element type of the output; default: as the adapters.")
    ] = None,
    seed: Seed = None,
    memory: Memory = None,
    threads: Threads = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is already at OUT.")] = False,
    download: Download = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Merge LoRA adapters into one adapter, exactly, on ΔW = s·B·A.

    The weight of an adapter is what follows its last colon, when that is a number; --weights sets all of them. The
    default, cat, is the exact weighted sum. Methods that drop entries need --density; those whose result has
    no low rank need --rank, or --base BASE --dense.
    """
    from carrick.adapters import merge as run  # noqa: PLC0415
    from carrick.adapters.dense import merge_into_base, refuse_for_checkpoints  # noqa: PLC0415

    request: dict[str, Any] = {
        "method": method,
        "weights": _weights(weights),
        "density": density,
        "parameters": _parameters(parameter or []),
        "dtype": dtype,
        "seed": seed,
        "memory": memory,
        "threads": threads,
        "force": force,
        "download": download,
    }
    with ByteProgress("merge") as bar:
        if dense:
            refuse_for_checkpoints(
                rank=rank is not None,
                energy=energy is not None,
                space=space is not Space.DELTA,
                modules_to_save=modules_to_save != "refuse",
                precision=precision is not Precision.FLOAT32,
                device=device != "cpu",
            )
            report: MergeReport = merge_into_base(base, adapters, out, progress=bar.watch, **request)
        else:
            report = run(
                adapters,
                out,
                rank=rank,
                energy=energy,
                space=space.value,
                base=base,
                modules_to_save=modules_to_save,
                precision=precision.value,
                device=device,
                progress=bar.watch,
                **request,
            )
    notes(report.notes)
    if as_json:
        say_json(report.to_dict())
    else:
        _say(report, out)


def _weights(text: str | None) -> list[float] | None:
    from carrick.errors import ConfigError  # noqa: PLC0415

    if text is None:
        return None
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise ConfigError(
            f"--weights is {text!r}; give numbers with commas between them, as in 1,0.5,1"
        ) from None


def _parameters(pairs: list[str]) -> dict[str, str]:
    from carrick.errors import ConfigError  # noqa: PLC0415

    given: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"-p is {pair!r}; write -p NAME=VALUE, as in -p lambda=0.6")
        if name in given:
            raise ConfigError(f"-p {name} is given twice; give it once")
        given[name] = value
    return given


def _say(report: MergeReport, out: Path) -> None:
    from carrick.memory import format_size  # noqa: PLC0415

    say(
        f"{out}: {count(report.tensors, 'tensor')}, {format_size(report.bytes_written)} written in "
        f"{report.seconds:.2f} s by {count(report.threads, 'thread')} with {report.simd}"
    )
    modules = getattr(report, "modules", [])
    if modules:
        say()
        for line in _modules(report):  # type: ignore[arg-type]
            say(line)


def _modules(report: AdapterReport) -> list[str]:
    """Lines for the modules that lose most in a truncation, or the ranks where nothing is lost."""
    worst = sorted(report.modules, key=lambda module: -module["error"])[:_SHOWN]
    rows = [
        [
            module["path"],
            f"{module['rank']:,}",
            f"{module['error']:.2e}" if module["error"] else "exact",
            f"{max(module['sigma'], default=0.0):.3g}",
            f"{module['sigma'][module['rank'] - 1]:.3g}" if module["rank"] else "0",
            f"{module['min_gap']:.1e}",
            module["route"],
        ]
        for module in worst
    ]
    head = ["module", "rank", "error", "σ first", "σ last kept", "smallest gap", "route"]
    lines = table(head, rows, numbers=[1, 2, 3, 4, 5])
    left = len(report.modules) - len(rows)
    return [*lines, *([f"and {count(left, 'module')} more: --json lists all"] if left else [])]
