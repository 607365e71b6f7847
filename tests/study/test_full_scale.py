"""MLM and XLT at the papers' scale: the plans, and their code on tiny models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from carrick.errors import CarrickError, ConfigError
from carrick.study import language_models, run_study
from carrick.study.language_models import train
from carrick.study.mlm.paper import printed
from carrick.study.mlm.rows import split, stated, training_questions
from carrick.study.registry import find
from carrick.study.run import chosen_recipe
from carrick.study.stage import Finished, Running
from carrick.study.xlt.conditions import conditions, models, needs_language
from carrick.study.xlt.numbers import Scores, _both, _friedman
from carrick.study.xlt.stages import BASE
from carrick.train.recipe import load_recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.study.stage import Stage

pytestmark = [
    pytest.mark.xdist_group("study-full-scale"),
    # torch.jit is deprecated in the Python that runs; torch itself still imports it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]


def planned(name: str) -> Sequence[Stage]:
    return find(name).load().stages(chosen_recipe(find(name), None), Path("data"))


@pytest.mark.parametrize("name", ["mlm", "xlt"])
def test_every_training_recipe_is_one_that_carrick_train_reads(name: str) -> None:
    trained = [stage for stage in planned(name) if stage.function == language_models.__name__ + ":train"]
    assert len(trained) > 60
    for stage in trained:
        recipe, _ = load_recipe(stage.params["recipe"])
        assert recipe.training.precision == "bfloat16"
        assert recipe.cost is not None
        assert stage.work.cost == pytest.approx(stage.work.seconds / 3600 * recipe.cost.price)
        assert stage.work.steps > 0


@pytest.mark.parametrize("name", ["mlm", "xlt"])
def test_a_dry_run_plans_data_time_and_cost_without_any_of_them(name: str, tmp_path: Path) -> None:
    done = run_study(name, tmp_path, data=tmp_path / "nowhere", dry_run=True)
    assert all(each.missing or each.stage.needs for each in done.planned)
    assert sum(each.stage.work.cost for each in done.planned) > 10
    assert not list(tmp_path.iterdir())


def test_mlm_has_the_papers_grid_splits_and_shots() -> None:
    stages = {stage.name: stage for stage in planned("mlm")}
    recipe, _ = load_recipe(stages["1b-70-30-ta-s0"].params["recipe"])
    assert recipe.search is not None
    assert (len(recipe.search.learning_rate), len(recipe.search.weight_decay)) == (4, 3)
    assert recipe.adapter is not None
    assert (recipe.adapter.rank, recipe.adapter.alpha, recipe.adapter.dropout) == (8, 16.0, 0.05)
    shots = [each["shots"] for each in stages["score-3b-80-20-no-adapter"].params["evaluations"]]
    assert shots == [0, 3, 5]
    language, _ = load_recipe(stages["3b-80-20-hi-la-orthogonal-s0"].params["recipe"])
    assert (language.method, language.training.epochs, language.search) == ("language_adapter", 1.0, None)


def test_the_papers_numbers_are_those_of_its_tables() -> None:
    assert printed("3b/80-20", "ties", 0) == (0.30, 0.24)
    assert printed("1b/70-30", "mlm/orthogonal/1", 1) == (0.32, 0.23)
    assert printed("1b/70-30", "cat/free", 0) == (0.31, 0.26)


def rows(count: int, first: int = 0) -> str:
    made = [
        {"question_id": first + n, "question": f"q{n}", "option_0": "a", "option_1": "b", "answer": "B"}
        for n in range(count)
    ]
    return "".join(json.dumps(row) + "\n" for row in made)


def test_a_question_is_on_the_same_side_in_all_languages(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    for code in ("en", "es"):
        (tmp_path / f"{code}.jsonl").write_text(rows(20))
    out = tmp_path / "out"
    out.mkdir()
    params = {"languages": ["en", "es"], "split": {"share": 0.7, "seed": 0}, "shots": 3}
    files = {code: tmp_path / f"{code}.jsonl" for code in ("en", "es")}
    result = split(Running("split", params, {}, files, out))
    assert result["rows"] == {"en": {"train": 14, "test": 6}, "es": {"train": 14, "test": 6}}
    tests = [
        [
            json.loads(line)["question_id"]
            for line in (out / "mmlu_prox" / f"{code}.jsonl").read_text().splitlines()
        ]
        for code in ("en", "es")
    ]
    assert tests[0] == tests[1]
    shots = (out / "mmlu_prox" / "en_validation.jsonl").read_text().splitlines()
    assert len(shots) == 3
    assert not {json.loads(line)["question_id"] for line in shots} & set(tests[0])
    assert json.loads(shots[0])["cot_content"] == "the answer is (B)"
    first = json.loads((out / "train-en.jsonl").read_text().splitlines()[0])
    assert first["completion"].endswith("answer is (B)")


def test_a_shot_without_a_worked_answer_shows_what_the_scoring_accepts() -> None:
    """As the shot of the study has it, and as the task itself shows a row of a file without `cot_content`."""
    pytest.importorskip("lm_eval")
    from carrick.evaluate.tasks import mmlu_prox  # noqa: PLC0415

    template = (Path(mmlu_prox.__file__).parent / "mmlu_prox.yaml").read_text()
    assert 'doc_to_target: "{{worked or stated}}"' in template
    question = {"question": "q", "option_0": "a", "option_1": "b", "answer": "B"}
    for code in mmlu_prox.LANGUAGES:
        for given in (question, {**question, "cot_content": stated(question, code)}):
            shown = mmlu_prox.row(given, code)
            text = shown["worked"] or shown["stated"]
            assert mmlu_prox.score(shown, [text]) == {"exact_match": 1.0, "outside": 0.0}, (code, text)
            assert mmlu_prox.score({**shown, "answer": "A"}, [text])["exact_match"] == 0.0


def test_languages_with_other_questions_are_refused() -> None:
    with pytest.raises(ConfigError, match="es has other questions than en"):
        training_questions({"en": ["1", "2"], "es": ["1", "3"]}, 0.5, 0)


def test_xlt_shares_what_does_not_depend_on_the_language() -> None:
    recipe: Any = chosen_recipe(find("xlt"), None)
    names = [stage.name for stage in planned("xlt")]
    assert len(set(names)) == len(names)
    assert {"qwen-any-full-math-s0", "qwen-bn-full-swap-a-s0", "qwen-bn-cpt-full-swap-a-s0"} <= set(names)
    assert "qwen-sw-cpt-full-swap-a-s0" not in names
    steps = {name for name in names if "simultaneous-c-k50" in name}
    assert steps == {"llama-sw-full-simultaneous-c-k50-s0", "score-llama-sw-full-simultaneous-c-k50-s0"}
    for condition in conditions(recipe):
        for model in models(recipe, condition):
            if model.trained and not needs_language(model):
                assert model.data == ("math",)


def test_xlt_trains_with_the_papers_batches() -> None:
    stages = {stage.name: stage for stage in planned("xlt")}

    def batch(name: str) -> int:
        recipe, _ = load_recipe(stages[name].params["recipe"])
        return recipe.training.batch_size * recipe.training.accumulate

    assert batch("aya-te-full-language-s0") == 32
    assert batch("aya-te-full-simultaneous-a-k1-s0") == 64
    both, _ = load_recipe(stages["aya-te-full-simultaneous-a-k1-s0"].params["recipe"])
    alone, _ = load_recipe(stages["aya-te-full-language-s0"].params["recipe"])
    assert both.training.keep == alone.training.keep == "best"
    assert both.sources is not None
    assert alone.data is not None
    assert both.sources.task.validation == both.sources.language.validation == alone.data.validation
    assert alone.data.validation is not None
    counts = [getattr(side.train, "rows", None) for side in (both.sources.task, both.sources.language)]
    assert counts == [80_000, 80_000]  # equal amounts of both (section 4.5)
    recipe, _ = load_recipe(stages["aya-te-lora-language-b-s0"].params["recipe"])
    assert recipe.adapter is not None
    assert recipe.adapter.rslora
    assert recipe.partition is not None
    assert (recipe.partition.name, recipe.partition.side) == ("B", "language")


def test_xlt_refuses_a_missing_score() -> None:
    recipe: Any = chosen_recipe(find("xlt"), None)
    condition = conditions(recipe)[0]
    asked = {"mgsm/2": {condition.language: {"value": 0.0, "error": 0.0}}}
    name = f"score-{condition.base}-{BASE}"
    scores = Scores(recipe, {name: Finished(name, Path(), {"scores": asked})})
    assert scores.mgsm(condition, None, condition.language) == 0.0  # a score of 0 is one
    with pytest.raises(CarrickError, match=f"{name} has no score of mgsm in en"):
        _both(scores, condition, [None])


def test_friedman_names_the_treatments_it_ranks() -> None:
    """`mixing` was not run: the ranks are of the others, the best treatment first in every condition."""
    pytest.importorskip("scipy")
    ways = ("swap", "language", "math")
    rows = [
        {
            "condition": f"c{n}",
            "rows": {f"full/{way}": {"target": 0.9 - 0.1 * k + 0.01 * n} for k, way in enumerate(ways)},
        }
        for n in range(4)
    ]
    tested = _friedman(rows)["full"]
    assert dict(zip(tested["treatments"], tested["mean_ranks"], strict=True)) == {
        "math": 3.0,
        "language": 2.0,
        "swap": 1.0,
    }


def test_a_placeholder_of_no_input_is_an_error(tmp_path: Path) -> None:
    running = Running("x", {"recipe": {"base": "@nothing/here"}, "device": "cpu"}, {}, {}, tmp_path)
    with pytest.raises(Exception, match="`@nothing/here` is none of its inputs"):
        train(running)


@pytest.mark.parametrize(
    ("search", "took"),
    [(None, (10.0, 1.0)), ({"device_seconds": 120.0, "cost": 12.0, "best": 3}, (120.0, 12.0))],
)
def test_a_grid_took_what_all_of_its_points_took(
    search: Any, took: tuple[float, ...], tmp_path: Path
) -> None:
    record = {
        "steps": 5,
        "device_seconds": 10.0,
        "cost": 1.0,
        **({} if search is None else {"search": search}),
    }
    (tmp_path / language_models.MODEL).mkdir()
    (tmp_path / language_models.MODEL / "training.json").write_text(json.dumps(record))
    result = train(Running("x", {"recipe": {}, "device": "cpu"}, {}, {}, tmp_path))
    assert (result["device_seconds"], result["cost"]) == took
    assert result["steps"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlm", "xlt"])
def test_the_whole_study_runs_on_tiny_models(name: str, tmp_path: Path) -> None:
    for module in ("torch", "transformers", "peft", "trl", "datasets", "lm_eval", "matplotlib"):
        pytest.importorskip(module)
    done = run_study(name, tmp_path / "study", quick=True, jobs=1)
    assert done.outcome.failed == {}
    text = (tmp_path / "study" / "report" / "report.md").read_text()
    assert "its numbers mean nothing" in text
