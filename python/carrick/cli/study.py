"""``carrick study list``, ``run`` and ``report``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrick.cli.output import count, note, say, say_json, table, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.study import StudyRun
    from carrick.study.planning import Planned

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Name = Annotated[str, typer.Argument(help="A name of `carrick study list`.")]


def list_(as_json: AsJson = False) -> None:
    """List the studies."""
    from carrick.study.registry import STUDIES  # noqa: PLC0415

    if as_json:
        say_json([{"name": s.name, "title": s.title, "full_scale": s.full_scale} for s in STUDIES])
        return
    rows = [[s.name, s.title, "needs GPUs; --dry-run plans it" if s.full_scale else ""] for s in STUDIES]
    for line in table(["study", "what it is", ""], rows, sentence=1):
        say(line)


def run(  # noqa: PLR0917  (typer reads options from the signature)
    name: Name,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the study; default: studies/NAME.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with the data sets; --quick makes its own.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny models on made-up data: does everything work?")
    ] = False,
    jobs: Annotated[int, typer.Option(metavar="N", help="Worker processes, one thread each.")] = 1,
    devices: Annotated[
        str | None,
        typer.Option(metavar="0,1", help="GPUs, shared out among the workers (CUDA_VISIBLE_DEVICES)."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="0,1,2", help="Seeds instead of the recipe's.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A recipe of your own, of the same shape.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show every stage, its data and what it would take.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run a study: train, merge, evaluate, report. Stages whose inputs have not changed are skipped."""
    from carrick.cli.study_progress import StageProgress  # noqa: PLC0415
    from carrick.study.run import run_study  # noqa: PLC0415

    with StageProgress(name) as bar:
        done = run_study(
            name,
            out or Path("studies", name),
            data=data,
            quick=quick,
            jobs=jobs,
            devices=_numbers("--devices", devices),
            seeds=_numbers("--seeds", seeds),
            recipe=recipe,
            dry_run=dry_run,
            tell=bar.watch,
        )
    if as_json:
        say_json(_plain(done))
    elif dry_run:
        _say_plan(done.planned)
    else:
        _say_outcome(done)
    if done.outcome.failed:
        sys.stderr.write(f"error: {_failures(done)}\n")
        raise typer.Exit(1)


def report(
    name: Name,
    results: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="results.json; default: that of studies/NAME."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the report is written; default: beside it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a study's report anew, tables and plots, from its results."""
    from carrick.study.run import report_study  # noqa: PLC0415

    source = results or Path("studies", name, "report", "results.json")
    files = report_study(name, source, out or source.parent)
    if as_json:
        say_json([str(file) for file in files])
        return
    for file in files:
        say(str(file))


def _numbers(option: str, text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        from carrick.errors import ConfigError  # noqa: PLC0415  (loads the engine)

        raise ConfigError(
            f"{option} {text}: give whole numbers with commas between them, such as 0,1,2"
        ) from None


def _say_plan(planned: Sequence[Planned]) -> None:
    priced = next((each.stage.work.currency for each in planned if each.stage.work.cost), None)
    # One state of all stages goes into the last line: names and data need the room.
    state = None if len({each.state for each in planned}) > 1 else planned[0].state
    head = ["stage", *([] if state else ["state"]), "data", "steps", "tokens", "time"]
    rows = [_plan_row(each, stated=state is None, priced=priced is not None) for each in planned]
    head += [priced] if priced else []
    data = head.index("data")
    for line in table(head, rows, numbers=range(data + 1, len(head)), sentence=data):
        say(line)
    say()
    left = [each for each in planned if each.state != "done"]
    cost = sum(each.stage.work.cost for each in left)
    for line in wrapped(
        f"{count(len(planned), 'stage')}, {len(left):,} to run{f' ({state})' if state and left else ''}: about "
        f"{duration(sum(each.stage.work.seconds for each in left))} of device time"
        + (f", {cost:,.2f} {priced}" if priced else "")
        + f"; the longest chain {duration(max((each.priority for each in left), default=0.0))}"
    ):
        say(line)
    missing = list(dict.fromkeys(name for each in planned for name in each.missing))
    for name in missing[:8]:
        note(f"not there: {name}")
    if len(missing) > 8:
        note(f"… and {len(missing) - 8} more")


def _plan_row(each: Planned, *, stated: bool, priced: bool) -> list[str]:
    work = each.stage.work
    row = [each.stage.name, *([each.state] if stated else []), work.data]
    row += [f"{work.steps:,}" if work.steps else "", _tokens(work.tokens)]
    row += [duration(work.seconds) if work.seconds else ""]
    return [*row, f"{work.cost:,.2f}" if work.cost else ""] if priced else row


def _say_outcome(done: StudyRun) -> None:
    outcome = done.outcome
    say(
        f"{done.study.name}: {count(len(outcome.ran), 'stage')} run, {len(outcome.skipped):,} done before"
        + (f", {len(outcome.failed):,} failed, {len(outcome.waiting):,} not begun" if outcome.failed else "")
    )
    for file in done.files:
        say(str(file))


def _failures(done: StudyRun) -> str:
    name, reason = next(iter(done.outcome.failed.items()))
    more = len(done.outcome.failed) - 1
    log = done.out / "stages" / name / "log.txt"
    return (
        f"stage {name} failed: {reason} (its log: {log})"
        + (f"; {more} more failed" if more else "")
        + "; the same command goes on from there"
    )


def _plain(done: StudyRun) -> dict[str, Any]:
    return {
        "study": done.study.name,
        "out": str(done.out),
        "stages": [
            {
                "name": each.stage.name,
                "state": each.state,
                "key": each.key,
                "needs": list(each.stage.needs),
                "data": each.stage.work.data,
                "steps": each.stage.work.steps,
                "tokens": each.stage.work.tokens,
                "flops": each.stage.work.flops,
                "seconds": each.stage.work.seconds,
                "cost": each.stage.work.cost,
                "currency": each.stage.work.currency,
                "missing": list(each.missing),
            }
            for each in done.planned
        ],
        "ran": done.outcome.ran,
        "failed": done.outcome.failed,
        "files": [str(file) for file in done.files],
    }


def _tokens(number: int) -> str:
    if not number:
        return ""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def duration(seconds: float) -> str:
    """Write a time for people.

    Examples
    --------
    >>> duration(12), duration(150), duration(7260), duration(200_000)
    ('12 s', '2.5 min', '2.0 h', '55.6 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


list_.__name__ = "list"
COMMANDS = (list_, run, report)
