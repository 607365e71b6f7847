"""The paper's recipe at full scale: what its plan says, its costs, and its stages on tiny models."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import save_file

from carrick.errors import ConfigError
from carrick.study import made_up
from carrick.study.lsm import study, work
from carrick.study.lsm.paper import OVERALL
from carrick.study.lsm.recipe import LsmRecipe
from carrick.study.planning import in_order, plan
from carrick.study.registry import find
from carrick.study.run import chosen_recipe, run_study
from carrick.study.schedule import Moment, Schedule
from carrick.study.stage import Finished, Running
from carrick.study.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study.stage import Stage


@pytest.fixture(scope="module")
def recipe() -> LsmRecipe:
    found = chosen_recipe(find("lsm"), None)
    assert isinstance(found, LsmRecipe)
    return found


@pytest.fixture(scope="module")
def planned(recipe: LsmRecipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    return {stage.name: stage for stage in study.stages(recipe, tmp_path_factory.mktemp("data"))}


def test_the_paper_is_planned(recipe: LsmRecipe, planned: dict[str, Stage]) -> None:
    """Three tasks, five languages, eight merges, clusters, both levels, update, small model, case study."""
    for task in recipe.tasks:
        assert {f"train-8b-{task}-{code}-0" for code in ("en", "de", "fr", "ja", "zh")} <= set(planned)
        merges = [
            name for name in planned if name.startswith(f"merge-8b-{task}-") and re.search(r"-d[01]", name)
        ]
        assert len(merges) == 8
        assert planned[f"merge-8b-{task}-ja-zh-0"].needs == (f"train-8b-{task}-ja-0", f"train-8b-{task}-zh-0")
    assert len(planned["merge-8b-multitask-all-0"].needs) == 15
    assert planned["merge-8b-multitask-each-0"].needs == (
        "merge-8b-sentiment-ties-d0.5-0",
        "merge-8b-reasoning-ties-d0.5-0",
        "merge-8b-summarisation-knots-ties-d1-0",
    )
    assert planned["data-sentiment-en+"].params["train"] == 10_000
    assert planned["train-8b-sentiment-en+-0"].needs == ("data-sentiment-en+",)
    assert "train-8b-sentiment-en+-0" in planned["merge-8b-sentiment-updated-0"].needs
    assert {name.split("-")[2] for name in planned if name.startswith("train-3b")} == {
        "sentiment",
        "summarisation",
    }
    assert planned["merge-8b-themes-weighted-0"].params["weights"] == [1.0, 1.0, 1.0, 1.0, 1.5]
    in_order(list(planned.values()))


def test_the_paper_s_hyperparameters(planned: dict[str, Stage]) -> None:
    params = planned["train-8b-summarisation-comb-0"].params
    assert params["adapter"]["rank"] == params["adapter"]["alpha"] == 64
    training = params["training"]
    assert (training["learning_rate"], training["batch_size"], training["max_length"]) == (2e-5, 8, 8196)
    assert planned["data-summarisation-de"].params["train"] == 3000
    assert planned["data-reasoning-de"].params["train"] == 5000


def test_costs_follow_from_tokens_and_parameters(planned: dict[str, Stage]) -> None:
    """By hand: 5,000 rows of 90 + 4 tokens, three epochs, and 500 rows of validation after each."""
    work = planned["train-8b-sentiment-de-0"].work
    tokens = 3 * 5000 * 94
    flops = 6 * 8.03e9 * tokens + 2 * 8.03e9 * 3 * 500 * 94
    assert (work.tokens, work.steps) == (tokens, 1875)
    assert work.flops == pytest.approx(flops)
    assert work.seconds == pytest.approx(flops / 3.9e14 + 60)
    assert work.cost == pytest.approx(work.seconds / 3600 * 2.5)
    small = planned["train-3b-sentiment-de-0"].work
    assert small.flops / work.flops == pytest.approx(3.21 / 8.03)
    scored = planned["score-8b-sentiment-de-0"].work
    assert scored.seconds == pytest.approx(2 * 8.03e9 * 500 * 94 / 3.9e14 + 500 * 4 / 1500 + 60)


def test_the_dry_run_needs_no_model_and_no_data(tmp_path: Path) -> None:
    done = run_study("lsm", tmp_path / "out", dry_run=True)
    assert {each.state for each in done.planned} == {"no input"}
    assert sum(each.stage.work.cost for each in done.planned) > 10
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ja-zh: [ja, zh]", "ja-zh: [ja, zhh]", "`zhh` is none of the languages"),
        ("ja-zh: [ja, zh]", "comb: [ja, zh]", "`comb`, which is taken"),
        ("model: 3b", "model: 4b", "`4b` is none of the models"),
        ("es: 1.0, de: 1.0", "de: 1.0", "one weight for each"),
        (
            "best: {method: ties, density: 0.5}}\n  reasoning",
            "best: {method: ties, density: 0.3}}\n  reasoning",
            "`merges` does not hold",
        ),
    ],
)
def test_a_wrong_recipe_is_one_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = find("lsm").recipe_file.read_text()
    assert old in text
    file = tmp_path / "own.yml"
    file.write_text(text.replace(old, new, 1))
    with pytest.raises(ConfigError, match=message):
        find("lsm").recipe(file)


def test_summaries_are_scored_by_the_papers_metric(recipe: LsmRecipe, planned: dict[str, Stage]) -> None:
    encoder = recipe.tasks["summarisation"].bertscore
    assert encoder is not None
    assert planned["score-8b-summarisation-comb-0"].files["bertscore"].name
    assert "bertscore" not in planned["score-8b-sentiment-comb-0"].files
    table3 = {"summarisation": "bertscore", "reasoning": "accuracy", "sentiment": "macro_f1"}
    assert [OVERALL[each]["ties-all"] for each in table3.items()] == [0.812, 0.763, 0.600]
    assert [OVERALL[each]["ties-each"] for each in table3.items()] == [0.810, 0.755, 0.665]


def test_bertscore_is_of_summaries_alone(tmp_path: Path) -> None:
    text = find("lsm").recipe_file.read_text()
    file = tmp_path / "own.yml"
    file.write_text(text.replace("passes: 5,", "passes: 5, bertscore: x/y,", 1))
    with pytest.raises(ConfigError, match="`bertscore` of reasoning compares summaries"):
        find("lsm").recipe(file)


def _adapter(folder: Path, rank: int) -> None:
    draw = np.random.default_rng(rank)
    key = "base_model.model.layers.0.q_proj"
    factors = {"A": (rank, 8), "B": (8, rank)}
    folder.mkdir(parents=True)
    save_file(
        {
            f"{key}.lora_{f}.weight": draw.normal(size=shape).astype(np.float32)
            for f, shape in factors.items()
        },
        folder / "adapter_model.safetensors",
    )
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def test_merges_are_merged_at_the_sum_of_their_own_ranks(tmp_path: Path) -> None:
    """TIES_Each: the inputs are merges, of more than a training's rank."""
    needs = {}
    for name, rank in (("a", 1), ("b", 4)):
        _adapter(tmp_path / name / "adapter", rank)
        needs[name] = Finished(name, tmp_path / name)
    params = {"adapters": ["a", "b"], "method": "ties", "density": 0.5, "weights": [1.0, 1.0], "seed": 0}
    (tmp_path / "merged").mkdir()
    work.merge(Running("merged", params, needs, {}, tmp_path / "merged"))
    assert work.rank_of(tmp_path / "merged" / "adapter") == 5


def test_stages_run_on_tiny_models(recipe: LsmRecipe, tmp_path: Path) -> None:
    """Train, merge with unequal weights and score: one way through the kinds of stages, on made-up rows."""
    for name in ("torch", "transformers", "peft", "trl", "datasets", "lm_eval", "bert_score"):
        pytest.importorskip(name)
    small = study.quick(recipe)
    made_up.instructions(tmp_path, small.languages, {"train": 16, "validation": 4, "test": 4})
    made_up.llama(tmp_path / "made-up" / "8b")
    made_up.encoder(tmp_path / "made-up" / "encoder", small.languages)
    stages = {stage.name: stage for stage in study.stages(small, tmp_path)}
    wanted = _with_needs(
        stages, "score-8b-themes-weighted+-0", "score-8b-sentiment-comb-0", "score-8b-summarisation-en-0"
    )
    store = Store(tmp_path / "out")
    outcome = Schedule(plan(wanted, store), store, 1, _quiet).run()
    assert outcome.failed == {}
    scores = store.finished("score-8b-sentiment-comb-0").result["scores"]
    assert set(scores) == {"en", "ja"}
    assert 0 <= scores["ja"]["macro_f1"][0] <= 1
    summaries = store.finished("score-8b-summarisation-en-0").result["scores"]["en"]
    assert -1 <= summaries["bertscore"][0] <= 1
    updated = store.folder("train-8b-themes-ja+-0") / "adapter" / "training.json"
    assert json.loads(updated.read_text())["data"]["train"]["rows"] == 16
    assert (store.folder("merge-8b-themes-weighted+-0") / "adapter" / "adapter_model.safetensors").exists()


def _with_needs(stages: dict[str, Stage], *names: str) -> list[Stage]:
    wanted = list(names)
    for name in wanted:
        wanted += [need for need in stages[name].needs if need not in wanted]
    return [stages[name] for name in wanted]


def _quiet(moment: Moment) -> None:
    del moment
