"""A language that is added: the stages, its numbers against NumPy from the logits, the report, the verdict."""

from __future__ import annotations

import copy
import json
import re
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.errors import ConfigError
from carrick.study import report_study
from carrick.study.languages import findings as found_by
from carrick.study.languages.efficiency import addition
from carrick.study.languages.recipe import LanguagesRecipe, Merge
from carrick.study.languages.stages import Build
from carrick.study.languages.wording import short, signed
from carrick.study.registry import find
from carrick.study.run import chosen_recipe
from carrick.study.stage import Finished

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from carrick.study import StudyRun
    from carrick.study.stage import Stage

pytestmark = [
    pytest.mark.xdist_group("study-languages"),
    # torch.jit is deprecated in the Python that runs; torch itself still imports it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]

CODES, DRAWS = ("en", "de", "fr"), 50
STAGES = {
    "merged": ("score-without-fr-0", "score-ties-d0.5-0"),
    "combined": ("score-comb-without-fr-0", "score-comb-0"),
}


def real(**changed: Any) -> LanguagesRecipe:
    recipe = chosen_recipe(find("languages"), None)
    assert isinstance(recipe, LanguagesRecipe)
    return recipe.model_copy(update=changed)


def planned(recipe: LanguagesRecipe, data: Path) -> dict[str, Stage]:
    return {stage.name: stage for stage in Build(recipe, data).all()}


def content(done: StudyRun) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((done.out / "report" / "results.json").read_text())
    return read


def added_to(done: StudyRun) -> dict[str, Any]:
    added: dict[str, Any] = content(done)["found"]["new_language"]
    return added


def labels_and_answers(done: StudyRun, stage: str) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Labels and predicted classes of each language, from the files of the stages."""
    read = {}
    with np.load(done.out / "stages" / stage / "logits.npz") as logits:
        for code in CODES:
            rows = (done.out / f"stages/data-{code}/test.jsonl").read_text().splitlines()
            labels = np.array([json.loads(row)["label"] for row in rows])
            read[code] = (labels, logits[code].argmax(axis=1))
    return read


def macro_f1(labels: NDArray[Any], answers: NDArray[Any]) -> float:
    """2·hits / (rows of the class + answers of the class), mean over the classes; 0 of a class with neither."""
    each = []
    for label in range(3):
        total = int((labels == label).sum() + (answers == label).sum())
        each.append(2 * int(((labels == label) & (answers == label)).sum()) / total if total else 0.0)
    return sum(each) / 3


def drawn(
    before: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    after: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    codes: list[str],
) -> NDArray[np.float64]:
    """Differences of the mean macro F1 over drawn rows: the languages' rows in one urn, the same for both models."""
    place = np.concatenate([np.full(len(before[code][0]), code) for code in codes])
    labels = np.concatenate([before[code][0] for code in codes])
    old, new = (np.concatenate([model[code][1] for code in codes]) for model in (before, after))
    random, found = np.random.default_rng(0), []
    for _ in range(DRAWS):
        rows = random.integers(0, len(labels), len(labels))
        apart = []
        for code in codes:
            of = rows[place[rows] == code]
            apart.append(macro_f1(labels[of], new[of]) - macro_f1(labels[of], old[of]))
        found.append(sum(apart) / len(apart))
    return np.array(found)


def test_the_models_before_the_addition_lack_one_language(tmp_path: Path) -> None:
    stages = planned(real(), tmp_path)
    others = ["en", "de", "fr", "es", "it"]
    for seed in (0, 1, 2):
        comb = stages[f"train-comb-without-pt-{seed}"]
        assert comb.params["languages"] == others
        assert comb.params["steps"] * 6 == stages[f"train-comb-{seed}"].params["steps"] * 5
        assert "data-pt" not in comb.needs
        merge = stages[f"merge-without-pt-{seed}"]
        assert merge.params["adapters"] == [f"train-{code}-{seed}" for code in others]
        assert merge.params["merge"] == stages[f"merge-ties-d0.5-{seed}"].params["merge"]
        for name, adapter in (
            ("comb-without-pt", "train-comb-without-pt"),
            ("without-pt", "merge-without-pt"),
        ):
            score = stages[f"score-{name}-{seed}"]
            assert score.params["adapter"] == f"{adapter}-{seed}"
            assert score.params["languages"] == [*others, "pt"]


def test_the_other_stages_are_those_of_a_recipe_without_the_addition(tmp_path: Path) -> None:
    """Nothing that has run is run again because of it, and within a seed it comes last."""
    with_it = planned(real(seeds=[0]), tmp_path)
    without = planned(real(seeds=[0], new_language=None), tmp_path)
    assert list(with_it)[: len(without)] == list(without)
    assert len(with_it) == len(without) + 4
    for name, stage in without.items():
        other = with_it[name]
        assert (stage.params, stage.needs, stage.files) == (other.params, other.needs, other.files), name


def test_lambda_before_the_addition_is_chosen_without_the_language(tmp_path: Path) -> None:
    scaled = Merge(name="sum", method="task_arithmetic", lambdas=[0.2, 0.4])
    stages = planned(real(within=scaled, merges=[scaled]), tmp_path)
    merge = stages["merge-without-pt-0"]
    assert merge.params["languages"] == ["en", "de", "fr", "es", "it"]
    assert "data-pt" not in merge.needs
    assert stages["merge-task-arithmetic-0"].params["languages"] == ["en", "de", "fr", "es", "it", "pt"]


@pytest.mark.parametrize("model", ["merged", "combined"])
def test_scores_and_changes_are_those_of_the_logits(quick_languages: StudyRun, model: str) -> None:
    part = added_to(quick_languages)[model]
    before, after = (labels_and_answers(quick_languages, stage) for stage in STAGES[model])
    found = {}
    for code in CODES:
        old, new = macro_f1(*before[code]), macro_f1(*after[code])
        found[code] = new - old
        assert part["before"]["languages"][code]["macro_f1"]["mean"] == pytest.approx(old, abs=1e-12)
        change = part["changes"][code]
        assert change["difference"] == pytest.approx(new - old, abs=1e-12)
        assert change["seeds"] == pytest.approx([new - old], abs=1e-12)
        ends = np.quantile(drawn(before, after, [code]), [0.025, 0.975])
        assert [change["low"], change["high"]] == pytest.approx(list(ends), abs=1e-12)
    others = part["others"]
    assert others["difference"] == pytest.approx((found["en"] + found["de"]) / 2, abs=1e-12)
    draws = drawn(before, after, ["en", "de"])
    assert [others["low"], others["high"]] == pytest.approx(
        list(np.quantile(draws, [0.025, 0.975])), abs=1e-12
    )
    assert others["standard_error"] == pytest.approx(draws.std(ddof=1), abs=1e-12)


def test_merged_is_compared_with_combined_on_the_new_language(quick_languages: StudyRun) -> None:
    comb, merged = (labels_and_answers(quick_languages, STAGES[model][1]) for model in ("combined", "merged"))
    wanted = macro_f1(*merged["fr"]) - macro_f1(*comb["fr"])
    assert added_to(quick_languages)["against_comb"]["difference"] == pytest.approx(wanted, abs=1e-12)


def test_the_tables_hold_the_numbers_of_the_logits(quick_languages: StudyRun) -> None:
    text = (quick_languages.out / "report" / "report.md").read_text()
    section = text.partition("## A new language\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if "|" in line]
    lines = [row for row in cells if row[0] in {"en", "de", "fr (added)", "others, mean"}]
    assert len(lines) == 8
    for model, rows in (("merged", lines[:4]), ("combined", lines[4:])):
        before, after = (labels_and_answers(quick_languages, stage) for stage in STAGES[model])
        old, new = ([macro_f1(*scored[code]) for code in CODES] for scored in (before, after))
        for scores in (old, new):
            scores.append((scores[0] + scores[1]) / 2)
        wanted = [[short(a), short(b), signed(b - a)] for a, b in zip(old, new, strict=True)]
        assert [row[1:4] for row in rows] == wanted
        assert [row[5] for row in rows] == [""] * 4  # one seed has no spread


def test_the_spread_over_seeds_is_that_of_the_changes(quick_languages: StudyRun, tmp_path: Path) -> None:
    more = content(quick_languages)
    more["found"]["new_language"]["merged"]["changes"]["fr"]["seeds"] = [0.01, 0.05, 0.12]
    report_study("languages", more, tmp_path)
    row = re.search(r"\| fr \(added\) .*", (tmp_path / "report.md").read_text())
    assert row is not None
    assert row[0].split("|")[6].strip() == short(statistics.stdev([0.01, 0.05, 0.12])) == ".056"


def test_time_and_cost_are_those_of_the_training_records(quick_languages: StudyRun) -> None:
    wall = {
        name: json.loads((quick_languages.out / f"stages/train-{name}-0/adapter/training.json").read_text())
        for name in ("fr", "comb")
    }
    merge = json.loads((quick_languages.out / "stages/merge-ties-d0.5-0/stage.json").read_text())
    merged = wall["fr"]["wall_seconds"] + merge["result"]["merge_seconds"]
    efficiency = added_to(quick_languages)["efficiency"]
    assert efficiency["seconds"]["wall"]["merged"] == pytest.approx(merged)
    assert efficiency["quotients"]["wall"]["faster"] == pytest.approx(wall["comb"]["wall_seconds"] / merged)
    assert efficiency["quotients"]["wall"]["share"] == pytest.approx(merged / wall["comb"]["wall_seconds"])


def test_a_resumed_training_has_no_processor_time() -> None:
    def done(name: str, wall: float, *, resumed: int | None = None) -> tuple[str, Finished]:
        result = {"wall_seconds": wall, "resumed_from": resumed, "merge_seconds": wall}
        return name, Finished(name, None, result, wall + 1, wall + 2)  # type: ignore[arg-type]

    others = [done("merge-ties-d0.5-0", 2.0), done("train-comb-0", 60.0)]
    whole = addition(real(seeds=[0]), dict([done("train-pt-0", 10.0), *others]), "pt")
    # processor seconds: 12 of the training, 4 of the merge, 62 of COMB
    assert whole["quotients"]["cpu"] == {"faster": pytest.approx(62 / 16), "share": pytest.approx(16 / 62)}
    part = addition(real(seeds=[0]), dict([done("train-pt-0", 10.0, resumed=5), *others]), "pt")
    assert part["quotients"]["cpu"] == {"faster": None, "share": None}
    assert part["quotients"]["wall"]["faster"] == pytest.approx(60 / 12)


def interval(low: float, high: float, *seeds: float) -> dict[str, Any]:
    middle = (low + high) / 2
    return {"difference": middle, "low": low, "high": high, "seeds": list(seeds or [middle])}


GAIN, KEPT = interval(0.05, 0.10), interval(-0.015, 0.010)


@pytest.mark.parametrize(
    ("own", "others", "faster", "says"),
    [
        (GAIN, KEPT, [5.0, 4.5], "repeats"),
        (GAIN, KEPT, [5.0, None], "repeats"),  # a clock that is not known says nothing
        (interval(-0.01, 0.10), KEPT, [5.0, 4.5], "within the noise"),
        (interval(0.05, 0.10, 0.2, -0.1), KEPT, [5.0, 4.5], "within the noise"),  # a seed lost
        (interval(-0.10, -0.05), KEPT, [5.0, 4.5], "does not repeat"),
        (GAIN, interval(-0.030, 0.010), [5.0, 4.5], "within the noise"),
        (GAIN, interval(-0.050, -0.025), [5.0, 4.5], "does not repeat"),  # the others paid for it
        (GAIN, KEPT, [0.9, 4.5], "does not repeat"),
        (GAIN, KEPT, [5.0, 0.9], "does not repeat"),
    ],
)
def test_the_verdict_asks_for_quality_and_for_time(
    quick_languages: StudyRun,
    own: dict[str, Any],
    others: dict[str, Any],
    faster: list[float | None],
    says: str,
) -> None:
    found = copy.deepcopy(content(quick_languages)["found"])
    added = found["new_language"]
    added["merged"]["changes"]["fr"], added["merged"]["others"] = own, others
    for clock, quotient in zip(("wall", "cpu"), faster, strict=True):
        added["efficiency"]["quotients"][clock]["faster"] = quotient
    (finding,) = [each for each in found_by.findings(found) if each.claim.startswith("A new language")]
    assert finding.verdict == says
    assert "By construction: " in finding.evidence


@pytest.mark.parametrize("left_out", ["absent", "none"])
def test_results_without_the_addition_are_reported_without_it(
    quick_languages: StudyRun, tmp_path: Path, left_out: str
) -> None:
    old = content(quick_languages)
    if left_out == "absent":  # as they were written before there was such a step
        del old["found"]["new_language"], old["recipe"]["new_language"]
    else:
        old["found"]["new_language"] = old["recipe"]["new_language"] = None
    files = {file.name for file in report_study("languages", old, tmp_path)}
    assert files == {file.name for file in quick_languages.files} - {"new-language.png"}
    text = (tmp_path / "report.md").read_text()
    assert "new language" not in text
    assert "Of 12 claims" in text


def test_a_recipe_may_leave_it_out(tmp_path: Path) -> None:
    study = find("languages")
    file = tmp_path / "own.yml"
    text = study.recipe_file.read_text()
    file.write_text(re.sub(r"new_language:.*\n", "", text))
    recipe = study.recipe(file)
    assert isinstance(recipe, LanguagesRecipe)
    assert recipe.new_language is None
    assert study.load().quick(recipe).new_language is None
    assert not [name for name in planned(recipe, tmp_path) if "without" in name]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{language: pt}", "{language: ptt}", r"own\.yml:\d+: .*adds `ptt`, .*; did you mean `pt`\?"),
        ("{language: pt}", "{language: xx}", r"adds `xx`, .*; the languages are en, de, fr, es, it, pt"),
        ("{language: pt}", "{language: en}", "adds `en`, whose rows the head is fitted on"),
        ("{language: pt}", "{langauge: pt}", "did you mean `language`"),
        ("{language: pt}", "pt", "`new_language`"),
    ],
)
def test_a_wrong_language_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    study = find("languages")
    file = tmp_path / "own.yml"
    text = study.recipe_file.read_text()
    assert f"new_language: {old}" in text
    file.write_text(text.replace(f"new_language: {old}", f"new_language: {new}"))
    with pytest.raises(ConfigError, match=message) as caught:
        study.recipe(file)
    assert "\n" not in str(caught.value)


def test_two_languages_leave_nothing_to_merge() -> None:
    fields = real().model_dump()
    fields |= {"languages": {"en": "english", "pt": "portuguese"}, "clusters": {"all": ["en", "pt"]}}
    with pytest.raises(ValueError, match="leaves one language before the addition"):
        LanguagesRecipe.model_validate(fields)
