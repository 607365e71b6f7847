"""A language that is added: scores of the other languages' models, what the addition changes, time and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.languages import stages
from carrick.study.languages.bootstrap import changes, difference, row_scores
from carrick.study.languages.efficiency import addition

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from carrick.study.languages.bootstrap import Answers
    from carrick.study.languages.recipe import LanguagesRecipe
    from carrick.study.stage import Finished


def rows_before(recipe: LanguagesRecipe) -> dict[str, tuple[str, str]]:
    """Rows before the addition and after it, of the merged and of the combined model; empty where none is added."""
    if recipe.new_language is None:
        return {}
    code = recipe.new_language.language
    return {
        "merged": (stages.merged_without(code), recipe.within.id),
        "combined": (stages.combined_without(code), stages.COMBINED),
    }


def new_language(
    recipe: LanguagesRecipe,
    finished: Mapping[str, Finished],
    labels: Mapping[str, NDArray[np.int64]],
    answers: Mapping[str, Answers],
) -> dict[str, Any] | None:
    """Return what adding a language did to the merged and to the combined model; None where none is added."""
    if recipe.new_language is None:
        return None
    code = recipe.new_language.language
    others = [each for each in recipe.languages if each != code]
    models = {
        model: {
            "before": row_scores(recipe, labels, answers[before]),
            "after": after,
            "changes": changes(recipe, labels, answers[before], answers[after]),
            "others": difference(recipe, labels, answers[before], answers[after], others),
        }
        for model, (before, after) in rows_before(recipe).items()
    }
    return {
        "language": code,
        **models,
        "against_comb": difference(
            recipe, labels, answers[stages.COMBINED], answers[recipe.within.id], [code]
        ),
        "efficiency": addition(recipe, finished, code),
    }
