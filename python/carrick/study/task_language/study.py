"""The study of task and language adapters, as `carrick.study.registry.StudyModule` describes a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study import made_up
from carrick.study.base_model import MADE_UP
from carrick.study.task_language.recipe import Epochs, Pace, TaskLanguage, Training
from carrick.study.task_language.stages import all_stages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.study.report import Report
    from carrick.study.stage import Finished, Stage

RecipeType = TaskLanguage
_LANGUAGES = {"en": "english", "de": "german"}
_ROWS = {"train": 64, "val": 18, "test": 30}


def quick(recipe: TaskLanguage) -> TaskLanguage:
    """Return the recipe on made-up data: one target, one seed, one epoch of a tiny model."""
    return recipe.model_copy(
        update={
            "base": MADE_UP,
            "seeds": recipe.seeds[:1],
            "languages": _LANGUAGES,
            "adapter": recipe.adapter.model_copy(update={"rank": 2, "alpha": 4.0}),
            "training": Training(batch_size=16, learning_rate=5e-3),
            "epochs": Epochs(task=1, language=1, alignment=1, mixture=1),
            "weights": recipe.weights[-1:],
            "initialisations": ["zero", "orthogonal"],
            "eval_precision": "float32",
            "draws": 50,
            "pace": Pace(
                step=0.03, thousand_rows=1, train_rows=64, test_rows=30, validation_rows=18, tokens=9
            ),
        }
    )


def make_up(folder: Path) -> None:
    """Write made-up tweets and a tiny encoder."""
    made_up.tweets(folder / "xlmt_sentiment", _LANGUAGES, _ROWS)
    made_up.encoder(folder / "encoder", list(_LANGUAGES))


def stages(recipe: TaskLanguage, data: Path) -> Sequence[Stage]:
    """Return the stages of a recipe."""
    return all_stages(recipe, data)


def results(recipe: TaskLanguage, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return every number of the report."""
    from carrick.study.task_language.numbers import found  # noqa: PLC0415

    return found(recipe, finished)


def report(results: Mapping[str, Any]) -> Report:
    """Return the report from its numbers."""
    from carrick.study.task_language.pages import report as written  # noqa: PLC0415

    return written(results)
