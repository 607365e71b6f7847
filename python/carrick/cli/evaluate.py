"""``carrick evaluate``."""

from __future__ import annotations

import sys
import time
from pathlib import Path  # noqa: TC003  (typer reads the annotations)
from typing import Annotated

import typer

from carrick.cli.output import count, note, notes, say, say_json, table

_PATIENCE = 2.0


def evaluate(  # noqa: PLR0917  (typer reads options from the signature)
    model: Annotated[
        str | None,
        typer.Argument(help="A checkpoint: folder, Hub id, or base+adapter:0.5.", show_default=False),
    ] = None,
    adapters: Annotated[
        list[str] | None,
        typer.Argument(help="LoRA adapters of it, all active at once; each with :weight where it is not 1."),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(metavar="A,B", help="Names of tasks; --list shows them.", show_default=False)
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder with a folder for each task; without it, the Hub's data sets."
        ),
    ] = None,
    languages: Annotated[
        str | None, typer.Option(metavar="EN,DE", help="Codes of languages; default: all that are there.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Rows of each task and language; default: all.")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(metavar="N", help="Worked examples before each row; default: the task's.")
    ] = None,
    head: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="A classification head: the model is an encoder, the task has classes."
        ),
    ] = None,
    bertscore: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Encoder by which summaries are compared as well.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="NAME", help="auto, cpu, cuda or cuda:1.")] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            metavar="TYPE", help="auto (float32 on a CPU, as stored on a GPU), float32, bfloat16 or float16."
        ),
    ] = "auto",
    batch_size: Annotated[int, typer.Option(metavar="N", help="Rows computed together.")] = 8,
    max_length: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Tokens that the model sees; default: its own maximum, with --head those of its training.",
        ),
    ] = None,
    max_new_tokens: Annotated[
        int | None, typer.Option(metavar="N", help="Tokens of an answer; default: the task's.")
    ] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Ask in the model's chat template.")] = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the bootstrap.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DIR", help="Write results, answers and charts there."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results that are there.")] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch models from the Hub that are not in the local cache.")
    ] = False,
    list_tasks: Annotated[
        bool, typer.Option("--list", help="List the tasks, and what --data has of them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score a model on tasks in languages, with standard errors.

    Tasks run in lm-evaluation-harness over local files; everything is checked before the model is loaded.
    """
    if list_tasks:
        _list(data, as_json)
        return
    if model is None or tasks is None:
        raise typer.BadParameter("give a model and --tasks, or --list to see the tasks")
    from carrick.evaluate import evaluate as score  # noqa: PLC0415

    progress = _Lines()
    report = score(
        model,
        adapters or [],
        tasks=_parts(tasks),
        data=data,
        languages=None if languages is None else _parts(languages),
        limit=limit,
        shots=shots,
        head=head,
        bertscore=bertscore,
        device=device,
        precision=precision,
        batch_size=batch_size,
        max_length=max_length,
        max_new_tokens=max_new_tokens,
        chat=chat,
        seed=seed,
        out=out,
        force=force,
        download=download,
        progress=progress.watch,
    )
    notes(report.notes)
    if out is not None:
        drawn = next(out.expanduser().glob("*.png"), None) is not None
        note(f"{'results, answers and charts' if drawn else 'results and answers'} are in {out}")
    if as_json:
        say_json(report.to_dict())
        return
    languages_scored = len({result.language for result in report.results})
    scored = f"{count(len(report.tasks), 'task')} in {count(languages_scored, 'language')}"
    say(f"{report.model} on {report.device}: {scored}, {report.seconds:.0f} s")
    say()
    head_row, rows = report.table()
    for line in table(head_row, rows, numbers=[2, 4, 5]):
        say(line)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _list(data: Path | None, as_json: bool) -> None:
    from carrick.errors import ConfigError  # noqa: PLC0415
    from carrick.evaluate.tasks.catalogue import FAMILIES  # noqa: PLC0415

    if data is not None and not data.is_dir():
        raise ConfigError(f"--data: there is no folder {data}")
    families = list(FAMILIES.values())
    there: list[list[str]] = []
    for family in families:
        try:
            there.append(family.available(data))
        except ConfigError:  # the folder has nothing of this task
            there.append([])
    if as_json:
        say_json(
            [
                {"task": each.name, "what": each.title, "metric": each.metric, "languages": codes}
                for each, codes in zip(families, there, strict=True)
            ]
        )
        return
    place = "on the Hub" if data is None else f"in {data.name}"
    rows = [
        [each.name, each.title, each.metric, _some(codes)]
        for each, codes in zip(families, there, strict=True)
    ]
    for line in table(["task", "what it asks", "score", f"languages {place}"], rows):
        say(line)


def _some(languages: list[str]) -> str:
    """Write a few languages, and how many more there are.

    Examples
    --------
    >>> _some(["de", "en"]), _some(["a", "b", "c", "d", "e", "f", "g", "h"])
    ('de en', 'a b c d e +3')
    """
    if len(languages) <= 6:
        return " ".join(languages) or "none"
    return f"{' '.join(languages[:5])} +{len(languages) - 5}"


class _Lines:
    """A line on stderr before each task and language, once the run has lasted two seconds."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._first: float | None = None  # when the model was loaded, so that loading is no speed

    def watch(self, done: int, total: int, name: str) -> None:
        now = time.monotonic()
        if not name.startswith("loading") and self._first is None:
            self._first = now
        if not name or (now - self._start < _PATIENCE and not sys.stderr.isatty()):
            return
        left = ""
        if done and self._first is not None:
            seconds = round((now - self._first) / done * (total - done))
            left = f"  {seconds // 60}:{seconds % 60:02d} left"
        sys.stderr.write(f"evaluate: {done}/{total}  {name}{left}\n")
        sys.stderr.flush()
