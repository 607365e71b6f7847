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

    Wall times cover all runs of a training that was resumed; processor seconds the last one alone, so what rests on
    such a training has none: None. ``resumed`` names these trainings.
    """
    runs = [_of_seed(recipe, finished, seed) for seed in recipe.seeds]
    means = {
        clock: {key: _mean([run[clock][key] for run in runs]) for key in runs[0][clock]}
        for clock in ("wall", "cpu")
    }
    return {
        "languages": len(recipe.languages),
        "steps": {"language": recipe.training.steps, "combined": recipe.combined_steps},
        "seconds": means,
        "quotients": {clock: _quotients(values) for clock, values in means.items()},
        "resumed": sorted(
            name for name, done in finished.items() if name.startswith("train-") and _resumed(done)
        ),
        "paper": PAPER,
        "earlier": EARLIER,
    }


def addition(recipe: LanguagesRecipe, finished: Mapping[str, Finished], code: str) -> dict[str, Any]:
    """Return seconds of adding a language, mean over seeds, and the quotients.

    The merged model takes the training of that language alone and a merge of all; the combined one is trained again
    on all. One training a side: its time is its cost. Clocks and resumed trainings are as of `efficiency`.
    """
    runs = []
    for seed in recipe.seeds:
        single, comb = finished[f"train-{code}-{seed}"], finished[f"train-comb-{seed}"]
        merge = finished[f"merge-{recipe.within.id}-{seed}"]
        own = _processor(single)
        runs.append(
            {
                "wall": {
                    "merged": single.result["wall_seconds"] + merge.result["merge_seconds"],
                    "combined": comb.result["wall_seconds"],
                },
                "cpu": {
                    "merged": None if own is None else own + merge.cpu_seconds,
                    "combined": _processor(comb),
                },
            }
        )
    seconds = {
        clock: {key: _mean([run[clock][key] for run in runs]) for key in ("merged", "combined")}
        for clock in ("wall", "cpu")
    }
    return {
        "seconds": seconds,
        "quotients": {
            clock: {
                "faster": _over(means["combined"], means["merged"]),
                "share": _over(means["merged"], means["combined"]),
            }
            for clock, means in seconds.items()
        },
    }


def _of_seed(
    recipe: LanguagesRecipe, finished: Mapping[str, Finished], seed: int
) -> dict[str, dict[str, float | None]]:
    single = [finished[f"train-{code}-{seed}"] for code in recipe.languages]
    comb = finished[f"train-comb-{seed}"]
    updated = finished[f"train-{recipe.update.language}-{seed}"]
    merge = finished[f"merge-{recipe.within.id}-{seed}"]

    def figures(
        train: Sequence[float | None], whole: float | None, again: float | None, merging: float
    ) -> dict[str, float | None]:
        known = [each for each in train if each is not None]
        complete = len(known) == len(train)
        return {
            "build_merged_time": max(known) + merging if complete else None,
            "build_merged_cost": sum(known) + merging if complete else None,
            "build_combined": whole,
            "update_merged": None if again is None else again + merging,
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
            [_processor(each) for each in single], _processor(comb), _processor(updated), merge.cpu_seconds
        ),
    }


def _resumed(done: Finished) -> bool:
    """Whether the run that finished a training did not do all of it: it was resumed, or killed after its end."""
    return done.result.get("resumed_from") is not None or done.seconds < done.result["wall_seconds"]


def _processor(done: Finished) -> float | None:
    return None if _resumed(done) else done.cpu_seconds


def _mean(values: Sequence[float | None]) -> float | None:
    """Return the mean over seeds; None if one of them is unknown, as quotients are of the same seeds."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if len(known) == len(values) else None


def _quotients(seconds: Mapping[str, float | None]) -> dict[str, float | None]:
    """How many times faster and cheaper merging is; of one device an update's time is its cost.

    Examples
    --------
    >>> names = ("build_merged_time", "build_merged_cost", "build_combined", "update_merged", "update_combined")
    >>> _quotients(dict(zip(names, (10, 50, 60, 12, 60))))["update"]
    5.0
    """

    def over(one: str, other: str) -> float | None:
        return _over(seconds[one], seconds[other])

    return {
        "build_time": over("build_combined", "build_merged_time"),
        "build_cost": over("build_combined", "build_merged_cost"),
        "update": over("update_combined", "update_merged"),
        "update_share": over("update_merged", "update_combined"),
    }


def _over(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first / second
