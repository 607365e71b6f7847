"""Study 2 on made-up data: what is trained beside what, the merges, and the report from its numbers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.errors import ConfigError
from carrick.study import report_study, run_study
from carrick.study.languages.tweets import load
from carrick.study.registry import find
from carrick.study.run import chosen_recipe
from carrick.study.task_language.accounting import COUNTS
from carrick.study.task_language.findings import _finding, _samples
from carrick.study.task_language.models import models
from carrick.study.task_language.numbers import macro_f1_of_seeds
from carrick.study.task_language.stages import all_stages, training_recipe
from carrick.study.verdicts import together, verdict
from carrick.train.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study import StudyRun
    from carrick.study.report import Verdict

pytestmark = [
    pytest.mark.xdist_group("study-task-language"),
    # torch.jit is deprecated in the Python that runs; torch itself still imports it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    for name in ("torch", "transformers", "peft", "trl", "datasets", "sklearn", "scipy", "matplotlib"):
        pytest.importorskip(name)
    return run_study("task-language", tmp_path_factory.mktemp("studies") / "task-language", quick=True)


def recipe() -> Any:
    return chosen_recipe(find("task-language"), None)


def found(done: StudyRun) -> Any:
    return json.loads((done.out / "report" / "results.json").read_text())["found"]


# --- recipes


def test_every_training_recipe_is_one_that_carrick_train_reads() -> None:
    for model in models(recipe()):
        if model.way == "train":
            typed, _ = load_recipe(training_recipe(recipe(), model))
            expected = 1.0 if model.family.split("/")[0] in {"la", "mlm", "cat"} else 4.0
            assert typed.training.epochs == expected, model.name
            assert typed.data is not None
            assert (typed.data.sample == 0.15) == (model.family.split("/")[0] in {"mlm", "cat"}), model.name


def test_the_recipe_has_every_row_of_the_issue() -> None:
    families = {(model.target, model.family) for model in models(recipe())}
    for target in ("de", "pt"):
        for kind in ("zero", "orthogonal", "random"):
            assert (target, f"la/{kind}") in families
            for weight in ("0.5", "1"):
                assert {(target, f"merge/{kind}/{weight}"), (target, f"mlm/{kind}/{weight}")} <= families
        for family in (
            "single",
            "mixed",
            "sum_average",
            "sum_addition",
            "ties",
            "dare",
            "cat/softmax",
            "cat/free",
        ):
            assert (target, family) in families
    assert {(None, "zero_shot"), (None, "task_adapter")} <= families


def test_the_task_adapter_is_trained_once_and_every_language_adapter_beside_it() -> None:
    known = models(recipe())
    assert [model.name for model in known if model.family == "task_adapter"] == ["ta-s0"]
    for model in known:
        if model.family.startswith(("la/", "mlm/", "merge/", "cat/")):
            assert model.adapters[0] == "ta-s0"
        if model.family.startswith("la/"):
            assert training_recipe(recipe(), model)["task_adapter"] == "@ta-s0/adapter"
            assert model.languages == (model.target,)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("task_language: en", "task_language: fr", "`task_language` is fr"),
        ("weights: [0.5, 1.0]", "weights: []", "`weights` is empty"),
        ("initialisations: [zero,", "initialisations: [zeros,", "did you mean `zero`"),
    ],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = find("task-language").recipe_file.read_text()
    assert old in text
    (tmp_path / "recipe.yml").write_text(text.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        find("task-language").recipe(tmp_path / "recipe.yml")


def test_more_seeds_repeat_everything_but_the_data(tmp_path: Path) -> None:
    one = all_stages(recipe(), tmp_path)
    three = all_stages(chosen_recipe(find("task-language"), None, seeds=[0, 1, 2]), tmp_path)
    shared = sum(not stage.name.endswith("-s0") for stage in one)
    assert len(three) - shared == 3 * (len(one) - shared)


# --- numbers


def test_the_score_of_seeds_is_the_mean_of_scikit_learns() -> None:
    from sklearn.metrics import f1_score  # noqa: PLC0415

    draw = np.random.default_rng(0)
    labels, answers = draw.integers(0, 3, 90), draw.integers(0, 3, (90, 2))
    expected = np.mean([f1_score(labels, column, average="macro") for column in answers.T])
    assert macro_f1_of_seeds(labels, answers, 3) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [(0.1, 0.2, "repeats"), (-0.2, -0.1, "does not repeat"), (-0.1, 0.1, "within the noise")],
)
def test_verdicts_follow_from_intervals(low: float, high: float, says: str) -> None:
    assert verdict({"low": low, "high": high}) == says
    turned = {"repeats": "does not repeat", "does not repeat": "repeats"}.get(says, says)
    assert verdict({"low": low, "high": high}, lower_is_better=True) == turned


@pytest.mark.parametrize(
    ("verdicts", "says"),
    [
        (["repeats", "repeats"], "repeats"),
        (["repeats", "within the noise"], "repeats in part"),
        (["repeats", "within the noise", "does not repeat"], "mixed"),  # clear, and opposed
        (["within the noise", "does not repeat"], "does not repeat"),
        (["within the noise", "within the noise"], "within the noise"),
        ([], "not tested"),
    ],
)
def test_a_claim_of_several_comparisons_repeats_only_if_all_do(verdicts: list[Verdict], says: str) -> None:
    assert together(verdicts) == says


def test_clear_comparisons_are_counted_by_their_side() -> None:
    common = {"first": "mixed", "second": "cat/free", "target": "de", "language": "de", "difference": 0.0}
    ends = [(0.1, 0.2), (-0.1, 0.1), (-0.2, -0.1), (-0.3, -0.1)]
    found = _finding("They agree", [{**common, "low": low, "high": high} for low, high in ends], "en")
    assert found.verdict == "mixed"
    assert found.evidence.startswith("Of 4 comparisons 1 clearly agree, 2 clearly disagree. ")


def test_one_language_is_no_languages() -> None:
    ways = {way: [{"samples_seen": 1.0}, {"samples_seen": 2.0}] for way in ("mlm", "cat", "mixed")}
    evidence = _samples({"ways": ways, "counts": [1, 2]}).evidence
    assert evidence.startswith("1 language: 1 against")
    assert "; 2 languages: 2 against" in evidence


# --- the whole study


def test_every_stage_runs_and_the_report_is_written(done: StudyRun) -> None:
    assert done.outcome.failed == {}
    names = {file.name for file in done.files}
    assert {"report.md", "report.html", "scores-de.png", "samples.png", "results.json"} <= names


def test_training_a_language_adapter_leaves_the_task_adapter_as_it_is(done: StudyRun) -> None:
    from safetensors.numpy import load_file  # noqa: PLC0415

    folder = done.out / "stages"
    task, language, merged = (
        load_file(folder / name / "adapter" / "adapter_model.safetensors")
        for name in ("ta-s0", "de-la-orthogonal-s0", "de-merge-orthogonal-1-s0")
    )
    for key in task:
        if "lora_A" in key:  # the merge of λ = (1, 1): both side by side, whatever the order of rows
            rank = task[key].shape[0]
            assert merged[key].shape[0] == 2 * rank
            b = key.replace("lora_A", "lora_B")
            scale = 2.0  # α over rank
            expected = scale * (task[b] @ task[key] + language[b] @ language[key])
            config = json.loads(
                (folder / "de-merge-orthogonal-1-s0" / "adapter" / "adapter_config.json").read_text()
            )
            own = config["lora_alpha"] / config["r"]
            assert np.allclose(own * (merged[b] @ merged[key]), expected, atol=1e-6)


def test_the_scores_are_those_of_the_kept_logits(done: StudyRun) -> None:
    from sklearn.metrics import f1_score  # noqa: PLC0415

    folder = done.out / "stages"
    logits = np.load(folder / "score-de-ties-s0" / "logits.npz")["test-de"]
    labels = load(folder / "data-de", "test")[1]
    (row,) = (one for one in found(done)["rows"] if one["family"] == "ties")
    expected = f1_score(labels, logits.argmax(axis=1), average="macro")
    assert row["scores"]["target"]["macro_f1"] == pytest.approx(expected)
    assert row["scores"]["target"]["accuracy"] == pytest.approx(np.mean(logits.argmax(axis=1) == labels))


def test_the_chosen_row_is_the_best_on_the_validation_rows(done: StudyRun) -> None:
    choice = found(done)["chosen"]["de"]
    assert choice["validation"][choice["family"]] == max(choice["validation"].values())
    assert all(family.startswith("mlm/") for family in choice["validation"])


def test_samples_are_counted_from_the_records(done: StudyRun) -> None:
    account, quick = found(done)["accounting"], 64  # training rows of a language, one epoch each
    share = 2 * round(0.15 * quick)
    expected = {
        "mlm": [quick + n * (quick + share) for n in COUNTS],
        "cat": [quick + n * (quick + share) for n in COUNTS],
        "sum": [quick + n * quick for n in COUNTS],
        "mixed": [n * 2 * quick for n in COUNTS],
    }
    counted = {way: [one["samples_seen"] for one in totals] for way, totals in account["ways"].items()}
    assert counted == expected


def test_coefficients_of_cat_are_those_of_the_record(done: StudyRun) -> None:
    (one,) = (each for each in found(done)["coefficients"] if each["model"] == "de-cat-softmax-s0")
    record = json.loads((done.out / "stages/de-cat-softmax-s0/adapter/training.json").read_text())
    table = record["details"]["coefficients"]
    task, single = one["adapters"]
    assert (task["adapter"], single["adapter"]) == ("ta-s0", "de-single-s0")
    assert task["modules"] == len(table) > 1
    assert task["mean"] == pytest.approx(sum(row["adapter_1"] for row in table.values()) / len(table))
    assert single["high"] == max(row["adapter_2"] for row in table.values())
    assert task["mean"] + single["mean"] == pytest.approx(1.0)
    assert "de-single-s0" in (done.out / "report" / "report.md").read_text()


def test_the_report_comes_from_results_json_alone(done: StudyRun, tmp_path: Path) -> None:
    report_study("task-language", done.out / "report" / "results.json", tmp_path)
    for name in ("report.md", "scores-de.png"):
        assert (tmp_path / name).read_bytes() == (done.out / "report" / name).read_bytes()
