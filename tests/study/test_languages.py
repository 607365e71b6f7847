"""Study 1 on made-up data: from tweets to a report, and the report again from its numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.loading import updates_of
from carrick.errors import ConfigError
from carrick.study import report_study, run_study
from carrick.study.languages import stages
from carrick.study.languages.recipe import LanguagesRecipe
from carrick.study.languages.tweets import load, read
from carrick.study.registry import find
from carrick.study.run import chosen_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study import StudyRun

pytestmark = [
    pytest.mark.xdist_group("study-languages"),
    # torch.jit is deprecated in the Python that runs; torch itself still imports it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]


def results(done: StudyRun) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((done.out / "report" / "results.json").read_text())
    return content


def test_every_stage_runs_and_the_report_is_written(quick_languages: StudyRun) -> None:
    assert quick_languages.outcome.failed == {}
    names = {file.name for file in quick_languages.files}
    assert {"results.json", "report.md", "report.html", "overall.png", "cosine.png", "ranks.png"} <= names


def test_a_second_run_runs_nothing_and_writes_the_same_report(quick_languages: StudyRun) -> None:
    before = {file.name: file.read_bytes() for file in quick_languages.files}
    again = run_study("languages", quick_languages.out, quick=True)
    assert again.outcome.ran == []
    assert {file.name: file.read_bytes() for file in again.files} == before


def test_the_report_comes_from_results_json_alone(quick_languages: StudyRun, tmp_path: Path) -> None:
    source = quick_languages.out / "report" / "results.json"
    written = report_study("languages", source, tmp_path / "report")
    assert {file.name for file in written} == {file.name for file in quick_languages.files}
    for file in written:
        assert file.read_bytes() == (quick_languages.out / "report" / file.name).read_bytes(), file.name


def test_the_page_needs_nothing_beside_it(quick_languages: StudyRun) -> None:
    page = (quick_languages.out / "report" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == sum(f.suffix == ".png" for f in quick_languages.files)
    for outside in ('src="http', "<link", "<script", "@import", "url("):
        assert outside not in page


def test_tables_fit_the_page(quick_languages: StudyRun) -> None:
    for line in (quick_languages.out / "report" / "report.md").read_text().splitlines():
        assert len(line) <= 100 or line.startswith("!["), line


def test_scores_are_those_of_the_logits(quick_languages: StudyRun) -> None:
    """Macro F1 by hand from the saved logits: 2·hits / (rows of the class + answers of the class)."""
    found = results(quick_languages)["found"]
    for name, stage in ((stages.COMBINED, "score-comb-0"), ("ties-d0.5", "score-ties-d0.5-0")):
        for code in ("en", "de", "fr"):
            _, labels = load(quick_languages.out / "stages" / f"data-{code}", "test")
            with np.load(quick_languages.out / "stages" / stage / "logits.npz") as logits:
                answers = logits[code].argmax(axis=1)
            f1 = []
            for label in range(3):
                hits = sum(t == label and a == label for t, a in zip(labels, answers, strict=True))
                total = labels.count(label) + int((answers == label).sum())
                f1.append(2 * hits / total if total else 0.0)
            score = found["rows"][name]["languages"][code]["macro_f1"]["mean"]
            assert score == pytest.approx(sum(f1) / 3, abs=1e-12)


def test_overall_is_the_unweighted_mean(quick_languages: StudyRun) -> None:
    row = results(quick_languages)["found"]["rows"]["linear"]
    values = [each["macro_f1"]["mean"] for each in row["languages"].values()]
    errors = [each["macro_f1"]["row_error"] for each in row["languages"].values()]
    assert row["overall"]["macro_f1"]["mean"] == pytest.approx(sum(values) / 3)
    assert row["overall"]["macro_f1"]["row_error"] == pytest.approx(sum(e**2 for e in errors) ** 0.5 / 3)


def test_the_mean_is_the_mean_of_the_updates(quick_languages: StudyRun) -> None:
    """With NumPy from the trained adapters: `linear` of adapters is a sum unless it is told to normalise."""
    stages_of = quick_languages.out / "stages"
    trained = [updates_of(stages_of / f"train-{code}-0" / "adapter") for code in ("en", "de", "fr")]
    for path, merged in updates_of(stages_of / "merge-linear-0" / "adapter").items():
        wanted = sum(np.asarray(each[path]) for each in trained) / 3
        np.testing.assert_allclose(merged, wanted, atol=1e-5 * np.abs(wanted).max(), err_msg=path)


def test_individual_rows_are_scored_in_their_own_language(quick_languages: StudyRun) -> None:
    found = results(quick_languages)["found"]
    for code in ("en", "de", "fr"):
        record = json.loads((quick_languages.out / f"stages/score-{code}-0/stage.json").read_text())
        assert record["params"]["adapter"] == f"train-{code}-0"
        score = found["rows"][stages.INDIVIDUAL]["languages"][code]["macro_f1"]["mean"]
        assert score == pytest.approx(record["result"]["macro_f1"][code])


def test_density_1_is_ties(quick_languages: StudyRun) -> None:
    pairs = results(quick_languages)["found"]["same_adapters"]
    assert [pair["equal"] for pair in pairs] == [[True], [True]]


def test_half_of_the_combined_training_is_a_snapshot_of_it(quick_languages: StudyRun) -> None:
    trained = quick_languages.out / "stages/train-comb-0/adapter"
    record = json.loads((trained / "training.json").read_text())
    assert record["steps"] == 36  # 12 for each of three languages
    assert (trained / "snapshots/step-18/adapter_model.safetensors").exists()
    half = (trained / "snapshots/step-18/adapter_model.safetensors").read_bytes()
    assert half != (trained / "adapter_model.safetensors").read_bytes()


def test_the_head_on_disk_is_the_one_that_was_fitted(quick_languages: StudyRun) -> None:
    """scikit-learn's coefficients read back: far better than chance on the rows they were fitted on."""
    record = json.loads((quick_languages.out / "stages/head/stage.json").read_text())
    assert record["result"]["train_accuracy"] > 0.5


def test_the_update_trains_on_a_share_for_as_many_epochs(quick_languages: StudyRun) -> None:
    counts = json.loads((quick_languages.out / "stages/data-de/stage.json").read_text())["result"]["rows"]
    assert (counts["train"], counts["train-share"]) == (96, 48)
    some, _ = load(quick_languages.out / "stages/data-de", "train-share")
    every, _ = load(quick_languages.out / "stages/data-de", "train")
    assert all(every.count(text) >= some.count(text) for text in some)
    record = json.loads((quick_languages.out / "stages/train-de-share-0/adapter/training.json").read_text())
    assert record["steps"] == 6


def test_efficiency_is_that_of_the_training_records(quick_languages: StudyRun) -> None:
    wall = {}
    for name in ("en", "de", "fr", "comb"):
        record = quick_languages.out / f"stages/train-{name}-0/adapter/training.json"
        wall[name] = json.loads(record.read_text())["wall_seconds"]
    merge = json.loads((quick_languages.out / "stages/merge-ties-d0.5-0/stage.json").read_text())
    merging = merge["result"]["merge_seconds"]
    seconds = results(quick_languages)["found"]["efficiency"]["seconds"]["wall"]
    assert seconds["build_merged_time"] == pytest.approx(max(wall["en"], wall["de"], wall["fr"]) + merging)
    assert seconds["build_merged_cost"] == pytest.approx(wall["en"] + wall["de"] + wall["fr"] + merging)
    assert seconds["update_merged"] == pytest.approx(wall["de"] + merging)
    assert seconds["update_combined"] == pytest.approx(wall["comb"])


def test_lambda_is_the_best_on_validation(quick_languages: StudyRun) -> None:
    run = results(quick_languages)["found"]["lambda"][0]
    best = max(run["validation"], key=lambda scale: run["validation"][scale]["overall"])
    assert run["lambda"] == float(best)


def test_the_real_recipe_plans_without_data(tmp_path: Path) -> None:
    planned = run_study("languages", tmp_path, data=tmp_path / "nothing", dry_run=True).planned
    assert {each.state for each in planned} == {"no input"}
    combined = next(each.stage for each in planned if each.stage.name == "train-comb-1")
    single = [
        each.stage
        for each in planned
        if each.stage.name.startswith("train-") and each.stage.name[-2:] == "-1"
    ]
    steps = sum(each.work.steps for each in single if "share" not in each.name and "comb" not in each.name)
    assert combined.work.steps == steps
    assert not any(tmp_path.iterdir())


def test_no_data_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name its folder"):
        run_study("languages", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"no such file or folder; `languages` reads xlmt_sentiment/"):
        run_study("languages", tmp_path / "out", data=tmp_path)


def test_seeds_and_recipes_are_checked() -> None:
    study = find("languages")
    recipe = chosen_recipe(study, None, seeds=[7])
    assert isinstance(recipe, LanguagesRecipe)
    assert recipe.seeds == [7]
    with pytest.raises(ConfigError, match="name each seed once"):
        chosen_recipe(study, None, seeds=[1, 1])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("head_language: en", "head_language: eng", "`eng` is none of the languages"),
        ("germanic: [en, de]", "germanic: [en]", "each language once"),
        ("density: 1.0}", "denisty: 1.0}", "did you mean `density`"),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    study = find("languages")
    text = study.recipe_file.read_text()
    assert old in text
    file = tmp_path / "own.yml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        study.recipe(file)


def test_tweets_are_read_line_by_line(tmp_path: Path) -> None:
    text, labels = tmp_path / "t.txt", tmp_path / "l.txt"
    text.write_text("one\u2028still one\ntwo", encoding="utf-8")
    labels.write_text("0\n2")
    assert read(text, labels, ["a", "b", "c"]) == (["one\u2028still one", "two"], [0, 2])
    labels.write_text("0\n3")
    with pytest.raises(ConfigError, match=r"l\.txt:2: the label is `3`; labels are 0 to 2"):
        read(text, labels, ["a", "b", "c"])
    labels.write_text("0")
    with pytest.raises(ConfigError, match=r"2 texts, but .* 1 labels"):
        read(text, labels, ["a", "b", "c"])


def test_results_of_another_study_are_refused(quick_languages: StudyRun, tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    with pytest.raises(ConfigError, match="there is no such file"):
        report_study("languages", file, tmp_path)
    content = results(quick_languages)
    file.write_text(json.dumps({**content, "study": "lsm"}))
    with pytest.raises(ConfigError, match="results of `lsm`, not of `languages`"):
        report_study("languages", file, tmp_path)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="no results of a study"):
        report_study("languages", file, tmp_path)
