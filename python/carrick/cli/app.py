"""The application that the commands are registered with."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Annotated, ParamSpec, TypeVar

import typer

from carrick import __version__
from carrick.cli import adapters, study
from carrick.cli.compare import compare
from carrick.cli.doctor import doctor
from carrick.cli.evaluate import evaluate
from carrick.cli.inspect import inspect
from carrick.cli.merge import merge
from carrick.cli.methods import methods
from carrick.cli.output import say
from carrick.cli.plan import plan
from carrick.cli.schema import schema
from carrick.cli.similarity import similarity
from carrick.cli.train import train

if TYPE_CHECKING:
    from collections.abc import Callable


class Interrupted(Exception):  # noqa: N818  (nothing went wrong)
    """Ctrl-C, on its way to the exit code with what the run has to say about it."""


P = ParamSpec("P")
R = TypeVar("R")


def _interruptible(command: Callable[P, R]) -> Callable[P, R]:
    """Carry a KeyboardInterrupt past typer, which would drop its notes."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as stop:
            carried = Interrupted("interrupted")
            for text in getattr(stop, "__notes__", []):
                carried.add_note(text)
            raise carried from stop

    return run


app = typer.Typer(
    name="carrick",
    help="Merge language-model checkpoints and LoRA adapters at the speed of the disk, in constant memory.",
    rich_markup_mode=None,  # plain help: no panels, and rich is not imported
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"carrick {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    del version  # its callback has answered


for command in (merge, plan, inspect, compare, similarity, train, evaluate, methods, schema, doctor):
    app.command()(_interruptible(command))

_adapters = typer.Typer(help="Merge, apply, extract and look at LoRA adapters.", rich_markup_mode=None)
for adapters_command in adapters.COMMANDS:
    _adapters.command()(_interruptible(adapters_command))
app.add_typer(_adapters, name="adapters")

_study = typer.Typer(help="Run the papers' experiments, and write their reports.", rich_markup_mode=None)
for study_command in study.COMMANDS:
    _study.command()(_interruptible(study_command))
app.add_typer(_study, name="study")
