"""The paper's experiments at full scale, as `carrick.study.registry.StudyModule` describes a study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study import made_up
from carrick.study.base_model import MADE_UP
from carrick.study.lsm.recipe import LsmRecipe
from carrick.study.lsm.stages import Build

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.study.report import Report
    from carrick.study.stage import Finished, Stage

RecipeType = LsmRecipe
_LANGUAGES = ["en", "ja"]
_ROWS = {"train": 12, "validation": 4, "test": 4}


def quick(recipe: LsmRecipe) -> LsmRecipe:
    """Return the recipe on made-up rows: two languages, tiny random models, two merges."""
    small = {**_ROWS, "tokens": 40, "answer": 4}
    encoder = f"{MADE_UP}/encoder"
    tasks = {
        name: task.model_copy(update={**small, **({"bertscore": encoder} if task.bertscore else {})})
        for name, task in recipe.tasks.items()
    }
    kept = {task.best.id for task in tasks.values()}
    case = recipe.case_study
    return recipe.model_copy(
        update={
            "models": {
                name: model.model_copy(update={"base": f"{MADE_UP}/{name}", "parameters": 5e4})
                for name, model in recipe.models.items()
            },
            "chat": False,
            "languages": _LANGUAGES,
            "clusters": {"west": ["en"], "east": ["ja"]},
            "tasks": tasks,
            "adapter": recipe.adapter.model_copy(
                update={"rank": 2, "alpha": 4.0, "targets": ["q_proj", "v_proj"]}
            ),
            "training": recipe.training.model_copy(
                update={
                    "epochs": 1.0,
                    "max_length": 256,
                    "learning_rate": 1e-3,
                    "precision": "float32",
                    "gradient_checkpointing": False,
                }
            ),
            "merges": [merge for merge in recipe.merges if merge.id in kept],
            "update": recipe.update.model_copy(update={"more": 4}),
            "case_study": case.model_copy(
                update={
                    "languages": _LANGUAGES,
                    "task": case.task.model_copy(update=small),
                    "weights": {"en": 1.0, "ja": 1.5},
                    "update": case.update.model_copy(update={"more": 4}),
                }
            ),
        }
    )


def make_up(folder: Path) -> None:
    """Write made-up rows of every task, and two tiny Llamas."""
    made_up.instructions(folder, _LANGUAGES, {"train": 16, "validation": 4, "test": 4})
    made_up.encoder(folder / MADE_UP / "encoder", _LANGUAGES)
    for name in ("8b", "3b"):
        made_up.llama(folder / MADE_UP / name)


def stages(recipe: LsmRecipe, data: Path) -> Sequence[Stage]:
    """Return the stages of a recipe."""
    tiny = any(model.base.startswith(MADE_UP) for model in recipe.models.values())
    return Build(recipe, data, device="cpu" if tiny else "cuda").all()


def results(recipe: LsmRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return every number of the report."""
    from carrick.study.lsm.results import found  # noqa: PLC0415

    return found(recipe, finished)


def report(results: Mapping[str, Any]) -> Report:
    """Return the report from its numbers."""
    from carrick.study.lsm.report import report as written  # noqa: PLC0415

    return written(results)
