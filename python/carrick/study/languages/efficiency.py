"""Time and cost of building and of updating a model of many languages, merged against trained together."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.languages.recipe import LanguagesRecipe
    from carrick.study.stage import Finished

# What the paper says: an update is faster and cheaper by these factors (abstract), and the case study's share.
PAPER = {"time": 2.5, "cost": 3.0, "case_study_cost_share": 0.375}
# An earlier abstract: time reduced by up to 50 %, cost by more than 60 %.
EARLIER = {"time_saved": 0.5, "cost_saved": 0.6}


def efficiency(recipe: LanguagesRecipe, finished: Mapping[str, Finished]) -> dict[str, Any]:
    """Return seconds of training, mean over seeds, and the quotients that the paper prints.

    Time is the wall time of the longest of the trainings that run in parallel, cost the sum of their device
    seconds. Other processes share the machine, which wall times feel; so each is given in processor seconds of the
    training's process as well. Merging is added to both.
    """
    runs = [_of_seed(recipe, finished, seed) for seed in recipe.seeds]
    means = {
        clock: {key: statistics.fmean(run[clock][key] for run in runs) for key in runs[0][clock]}
        for clock in ("wall", "cpu")
    }
    return {
        "languages": len(recipe.languages),
        "steps": {"language": recipe.training.steps, "combined": recipe.combined_steps},
        "seconds": means,
        "quotients": {clock: _quotients(values) for clock, values in means.items()},
        "paper": PAPER,
        "earlier": EARLIER,
    }


def _of_seed(
    recipe: LanguagesRecipe, finished: Mapping[str, Finished], seed: int
) -> dict[str, dict[str, float]]:
    single = [finished[f"train-{code}-{seed}"] for code in recipe.languages]
    comb = finished[f"train-comb-{seed}"]
    updated = finished[f"train-{recipe.update.language}-{seed}"]
    merge = finished[f"merge-{recipe.within.id}-{seed}"]

    def figures(train: Sequence[float], whole: float, again: float, merging: float) -> dict[str, float]:
        return {
            "build_merged_time": max(train) + merging,
            "build_merged_cost": sum(train) + merging,
            "build_combined": whole,
            "update_merged": again + merging,
            "update_combined": whole,
            "merge": merging,
        }

    return {
        "wall": figures(
            [each.result["wall_seconds"] for each in single],
            comb.result["wall_seconds"],
            updated.result["wall_seconds"],
            merge.result["merge_seconds"],
        ),
        "cpu": figures(
            [each.cpu_seconds for each in single], comb.cpu_seconds, updated.cpu_seconds, merge.cpu_seconds
        ),
    }


def _quotients(seconds: Mapping[str, float]) -> dict[str, float]:
    """How many times faster and cheaper merging is; of one device an update's time is its cost.

    Examples
    --------
    >>> names = ("build_merged_time", "build_merged_cost", "build_combined", "update_merged", "update_combined")
    >>> _quotients(dict(zip(names, (10, 50, 60, 12, 60))))["update"]
    5.0
    """
    return {
        "build_time": seconds["build_combined"] / seconds["build_merged_time"],
        "build_cost": seconds["build_combined"] / seconds["build_merged_cost"],
        "update": seconds["update_combined"] / seconds["update_merged"],
        "update_share": seconds["update_merged"] / seconds["update_combined"],
    }
