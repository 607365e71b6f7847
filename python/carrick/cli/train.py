"""``carrick train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carrick.cli.output import count, fields, notes, parameters, say, say_json, table

if TYPE_CHECKING:
    from carrick.train import TrainReport


class Device(StrEnum):
    """Where it trains."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


def train(  # noqa: PLR0917  (typer reads options from the signature)
    recipe: Annotated[Path, typer.Argument(help="A YAML file: base, rows, adapter, training.")],
    out: Annotated[Path, typer.Argument(help="The output folder.")],
    device: Annotated[
        Device, typer.Option(help="Where it trains; auto: a GPU if there is one.")
    ] = Device.AUTO,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on from an interrupted run's checkpoints.")
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Check everything and count rows, tokens and steps; train nothing."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a model or adapter that is at OUT.")
    ] = False,
    progress: Annotated[
        bool, typer.Option("--progress/--no-progress", help="Draw a bar with the loss and the time left.")
    ] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Fine-tune a whole model or a LoRA adapter by RECIPE into OUT.

    What it took stands beside the result in training.json. Interrupted, the same command again goes on from the
    newest checkpoint. Several GPUs: accelerate launch -m carrick train RECIPE OUT.
    """
    from carrick.train.processes import Processes  # noqa: PLC0415
    from carrick.train.run import train as run  # noqa: PLC0415

    report = run(
        recipe,
        out,
        device=device.value,
        resume=resume,
        force=force,
        dry_run=dry_run,
        progress=progress,
    )
    if not Processes(device.value).is_main:
        return
    notes(report.notes)
    if as_json:
        say_json(report.record)
    elif report.dry_run:
        _say_plan(report)
    else:
        _say(report)


def _say(report: TrainReport) -> None:
    record = report.record
    kept = record["best_step"]
    weights = "the last weights" if kept is None else f"the weights of step {kept:,}, the best on validation"
    say(f"{report.out}: {parameters(record['trainable_parameters'])} parameters trained, {weights}")
    say()
    pairs = [
        ("steps", f"{record['steps']:,} ({record['epochs']:.4g} epochs)"),
        ("rows seen", f"{record['samples_seen']:,}"),
        ("loss", _loss(record["final_epoch_loss"]) + " over the last epoch"),
    ]
    if record["validation"]:
        pairs.append(("validation", _validation(record)))
    pairs.append(
        ("time", f"{_clock(record['wall_seconds'])} on {record['device_count']} × {record['device']}")
    )
    if record["cost"] is not None:
        pairs.append(("cost", _money(record["cost"], record["currency"])))
    if "search" in record:
        pairs.append(("of the grid", _of_the_grid(record)))
    for line in fields(pairs):
        say(line)
    if "search" in record:
        say()
        _say_search(record["search"])


def _of_the_grid(record: dict[str, Any]) -> str:
    """State what all points took together; the record's own numbers are those of the one that was kept."""
    search = record["search"]
    price = "" if search["cost"] is None else f", {_money(search['cost'], record['currency'])}"
    return f"{_clock(search['device_seconds'])} of device time{price}, all {len(search['points'])} points together"


def _say_search(search: dict[str, Any]) -> None:
    rows = [
        [
            "kept" if number == search["best"] else "",
            f"{point['learning_rate']:g}",
            f"{point['weight_decay']:g}",
            _loss(point["final_epoch_loss"]),
            _loss(point["validation_loss"]) if point["validation_loss"] is not None else "",
            _clock(point["device_seconds"]),
        ]
        for number, point in enumerate(search["points"])
    ]
    head = ["", "learning rate", "weight decay", "loss, last epoch", "validation", "device time"]
    for line in table(head, rows, numbers=[1, 2, 3, 4, 5]):
        say(line)


def _say_plan(report: TrainReport) -> None:
    record = report.record
    train = record["data"]["train"]
    say(f"{report.out}: {record['method']} of {record['base']['name']} ({record['base']['architecture']})")
    say()
    head = ["rows from", "there", "used"]
    rows = [[each["source"], f"{each['available']:,}", f"{each['rows']:,}"] for each in train["sources"]]
    for line in table(head, rows, numbers=[1, 2]):
        say(line)
    say()
    pairs = [("rows", f"{train['rows']:,}, {train['tokens']:,} tokens")]
    if train["languages"]:
        pairs.append(
            ("languages", ", ".join(f"{name} {rows:,}" for name, rows in train["languages"].items()))
        )
    validation = record["data"]["validation"]
    if validation is not None:
        pairs.append(("validation", count(validation["rows"], "row")))
    if record["points"] > 1:
        pairs.append(("search", count(record["points"], "training")))
    pairs.append(("steps", f"{record['steps']:,} ({record['epochs']:.4g} epochs)"))
    pairs.append(("tokens seen", f"{record['tokens_seen']:,}"))
    if record["trainable_parameters"] is not None:
        pairs.append(("trained", f"{parameters(record['trainable_parameters'])} parameters"))
    if record["device_seconds"] is not None:
        pairs.append(("device time", f"about {_clock(record['device_seconds'])}"))
        pairs.append(("cost", "about " + _money(record["cost"], record["currency"])))
    for line in fields(pairs):
        say(line)
    say()
    say(f"nothing was trained: without --dry-run this makes {report.out}")


def _validation(record: dict[str, Any]) -> str:
    kept = record["best_step"]
    step, loss = next((each for each in record["validation"] if each[0] == kept), record["validation"][-1])
    return f"{_loss(loss)} at step {step:,}"


def _loss(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4f}"


def _money(amount: float, currency: str) -> str:
    return f"{amount:,.4f} {currency}" if amount < 1 else f"{amount:,.2f} {currency}"


def _clock(seconds: float) -> str:
    """Write a duration for people.

    Examples
    --------
    >>> _clock(7.31), _clock(125), _clock(7384)
    ('7.3 s', '2:05 min', '2:03:04 h')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"
