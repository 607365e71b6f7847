"""A study whose second stage fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.config.typed import Recipe
from carrick.study.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path


class RecipeType(Recipe):
    text: str


def stages(recipe: RecipeType, data: Path) -> list[Stage]:
    del data
    return [
        Stage("good", "study.toy:write", {"text": recipe.text}),
        Stage("bad", "study.toy:fail", needs=("good",)),
        Stage("after", "study.toy:write", needs=("bad",)),
    ]


def results(recipe: RecipeType, finished: Any) -> dict[str, Any]:
    del recipe, finished
    raise AssertionError("stages failed: there is nothing to report")
