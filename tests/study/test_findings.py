"""Verdicts by the printed rules, on differences made up to lie on each side of them."""

from __future__ import annotations

from typing import Any

import pytest

from carrick.study.languages import findings as found_by
from carrick.study.languages.efficiency import efficiency
from carrick.study.registry import find
from carrick.study.run import chosen_recipe
from carrick.study.stage import Finished


def difference(low: float, high: float, *seeds: float) -> dict[str, Any]:
    middle = (low + high) / 2
    return {"difference": middle, "low": low, "high": high, "seeds": list(seeds or [middle])}


def found(**more: Any) -> dict[str, Any]:
    row = {"title": "row", "overall": {"macro_f1": {"mean": 0.6}}}
    rows = {name: dict(row) for name in ("comb", "clusters", "two-level", "ties-d0.5", "best")}
    return {"rows": rows, "within": "ties-d0.5", "best_merge": "best", **more}


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        ((-0.010, 0.015), "repeats"),  # shown to be no better than by the margin
        ((-0.010, 0.030), "within the noise"),  # the interval has zero in it, which shows nothing
        ((0.001, 0.010), "does not repeat"),  # small, and clearly better
        ((-0.010, 0.015, 0.030, -0.025), "within the noise"),  # one seed is better by more than the margin
        ((-0.040, -0.010), "repeats"),
    ],
)
def test_no_improvement_is_a_test_of_equivalence(interval: tuple[float, ...], says: str) -> None:
    pairs = [
        {"first": "ties-d0.5", "second": name, **difference(*interval)} for name in ("clusters", "two-level")
    ]
    finding = found_by._clusters(found(pairs=pairs))
    assert finding.verdict == says
    assert "less than .020 better" in finding.evidence


@pytest.mark.parametrize(
    ("interval", "says"),
    [
        ((-0.015, 0.010), "repeats"),
        ((-0.015, 0.010, 0.020, -0.025), "within the noise"),  # a seed is lower by more than the margin
        ((-0.050, -0.025), "does not repeat"),
        ((-0.030, 0.010), "within the noise"),
    ],
)
def test_on_par_asks_every_seed(interval: tuple[float, ...], says: str) -> None:
    content = found()
    content["rows"]["best"]["against_comb"] = difference(*interval)
    assert found_by._on_par(content).verdict == says


def test_an_update_needs_every_seed() -> None:
    changes = {
        "en": difference(0.01, 0.03, 0.05, -0.01),
        "de": difference(0.01, 0.03),
        "fr": difference(-0.03, -0.01),
        "es": difference(-0.01, 0.01),
    }
    content = found(update={"language": "en", "share": 0.5, "changes": changes})
    assert found_by._update_own(content).verdict == "within the noise"
    assert found_by._update_others(content).verdict == "mixed"  # one is clearly better, one clearly worse
    changes["es"] = difference(0.01, 0.02)
    assert found_by._update_others(content).verdict == "repeats"
    changes["de"] = changes["fr"] = difference(-0.01, 0.01)
    assert found_by._update_others(content).verdict == "within the noise"  # one of three, and none is worse


def trainings(resumed: str | None) -> dict[str, Finished]:
    recipe: Any = chosen_recipe(find("languages"), None, seeds=[0])
    seconds = {f"train-{code}-0": 10.0 for code in recipe.languages} | {"train-comb-0": 60.0}
    finished = {}
    for name, wall in seconds.items():
        result = {"wall_seconds": wall, "resumed_from": 5 if name == resumed else None}
        finished[name] = Finished(name, None, result, wall + 1, wall + 2)  # type: ignore[arg-type]
    merge = f"merge-{recipe.within.id}-0"
    finished[merge] = Finished(merge, None, {"merge_seconds": 2.0}, 2.0, 2.0)  # type: ignore[arg-type]
    return finished


def measured(resumed: str | None) -> dict[str, Any]:
    return efficiency(chosen_recipe(find("languages"), None, seeds=[0]), trainings(resumed))  # type: ignore[arg-type]


def test_quotients_of_times_are_by_construction() -> None:
    content = found(efficiency=measured(None))
    for finding in (found_by._time(content), found_by._cost(content), found_by._parallel(content)):
        assert finding.verdict == "by construction"
        assert "By construction: " in finding.evidence
    assert "5.0 times by wall time, 4.4 by processor time" in found_by._time(content).evidence


def test_a_resumed_training_has_no_processor_time() -> None:
    quotients = measured("train-comb-0")["quotients"]
    assert quotients["cpu"] == dict.fromkeys(("build_time", "build_cost", "update", "update_share"))
    assert quotients["wall"]["update"] == pytest.approx(5.0)
    content = found(efficiency=measured("train-comb-0"))
    assert content["efficiency"]["resumed"] == ["train-comb-0"]
    assert "left out, as a training was resumed" in found_by._time(content).evidence


def test_a_training_that_ended_before_a_kill_counts_as_resumed() -> None:
    finished = trainings(None)
    done = finished["train-comb-0"]
    finished["train-comb-0"] = Finished(done.name, done.folder, done.result, 0.1, 0.1)
    recipe: Any = chosen_recipe(find("languages"), None, seeds=[0])
    assert efficiency(recipe, finished)["quotients"]["cpu"]["update"] is None


@pytest.mark.parametrize(
    ("equal", "says"),
    [([], "not tested"), ([True, True], "by construction"), ([True, False], "does not repeat")],
)
def test_what_density_1_makes_equal_confirms_nothing(equal: list[bool], says: str) -> None:
    pairs = [{"rows": ["best", "comb"], "equal": equal}] if equal else []
    assert found_by._same(found(same_adapters=pairs)).verdict == says
