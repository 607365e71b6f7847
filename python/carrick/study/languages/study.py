"""The study of languages, as `carrick.study.registry.StudyModule` describes a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study import made_up
from carrick.study.base_model import MADE_UP
from carrick.study.languages.recipe import LanguagesRecipe, NewLanguage, Pace
from carrick.study.languages.stages import Build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.study.report import Report
    from carrick.study.stage import Finished, Stage

RecipeType = LanguagesRecipe
_LANGUAGES = {"en": "english", "de": "german", "fr": "french"}
_ROWS = {"train": 96, "val": 24, "test": 60}


def quick(recipe: LanguagesRecipe) -> LanguagesRecipe:
    """Return the recipe on made-up data: three languages, one seed, a few steps of a tiny model."""
    task_arithmetic = [
        merge.model_copy(update={"lambdas": merge.lambdas[:2]}) if merge.lambdas else merge
        for merge in recipe.merges
    ]
    training = recipe.training.model_copy(
        update={"steps": 12, "batch_size": 16, "learning_rate": 5e-3, "warmup": 2, "precision": "float32"}
    )
    return recipe.model_copy(
        update={
            "base": MADE_UP,
            "seeds": recipe.seeds[:1],
            "languages": _LANGUAGES,
            "clusters": {"romance": ["fr"], "germanic": ["en", "de"]},
            "training": training,
            "adapter": recipe.adapter.model_copy(update={"rank": 4, "alpha": 8.0}),
            "merges": task_arithmetic,
            "new_language": recipe.new_language and NewLanguage(language="fr"),
            "eval_precision": "float32",
            "draws": 50,
            "pace": Pace(
                step=0.03, thousand_rows=1, train_rows=96, test_rows=60, validation_rows=24, tokens=9
            ),
        }
    )


def make_up(folder: Path) -> None:
    """Write made-up tweets and a tiny encoder."""
    made_up.tweets(folder / "xlmt_sentiment", _LANGUAGES, _ROWS)
    made_up.encoder(folder / "encoder", list(_LANGUAGES))


def stages(recipe: LanguagesRecipe, data: Path) -> Sequence[Stage]:
    """Return the stages of a recipe."""
    return Build(recipe, data).all()


def results(recipe: LanguagesRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return every number of the report."""
    from carrick.study.languages.results import found  # noqa: PLC0415

    return found(recipe, finished)


def report(results: Mapping[str, Any]) -> Report:
    """Return the report from its numbers."""
    from carrick.study.languages.report import report as written  # noqa: PLC0415

    return written(results)
