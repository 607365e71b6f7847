"""Study 3 on made-up data: what is kept apart, what is trained and merged, and the report from its numbers."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.errors import CarrickError, ConfigError
from carrick.study import report_study, run_study
from carrick.study.layer_swap import corpora, indicators, made_up, numbers, texts
from carrick.study.layer_swap.held_out import HeldOut
from carrick.study.layer_swap.models import models
from carrick.study.layer_swap.packing import SEPARATOR, pack
from carrick.study.layer_swap.rows import Row
from carrick.study.layer_swap.study import quick, stages
from carrick.study.layer_swap.training import training_recipe
from carrick.study.registry import find
from carrick.study.run import chosen_recipe
from carrick.train.recipe import load_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study import StudyRun

pytestmark = [
    pytest.mark.xdist_group("study-layer-swap"),
    # torch.jit is deprecated in the Python that runs; torch itself still imports it.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:torch.*"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    made_up.make_up(folder)
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    for name in ("torch", "transformers", "peft", "trl", "datasets", "scipy", "matplotlib"):
        pytest.importorskip(name)
    return run_study("layer-swap", tmp_path_factory.mktemp("studies") / "layer-swap", quick=True)


def recipe() -> Any:
    return chosen_recipe(find("layer-swap"), None)


def found(done: StudyRun) -> Any:
    return json.loads((done.out / "report" / "results.json").read_text())["found"]


# --- tests are kept out of training


@pytest.mark.parametrize(
    "text",
    [
        "Some words first. JANET'S ducks lay 16 eggs per day; she eats three for breakfast\nevery morning!",
        "janet s ducks lay 16 eggs per day she eats three for breakfast every morning",
        "x Zwölf Äpfel? y",
    ],
)
def test_a_test_problem_is_found_whatever_its_case_and_punctuation(text: str) -> None:
    tests = HeldOut(
        ["Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning.", "zwölf äpfel"]
    )
    assert tests.found(["nothing of it", text]) == [1]


def test_a_text_that_only_begins_like_a_test_problem_is_kept() -> None:
    tests = HeldOut(["Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning."])
    assert (
        tests.found(["Janet's ducks lay 16 eggs per day. She eats four for breakfast every morning."]) == []
    )


def test_planted_test_problems_are_taken_out_of_every_corpus(data: Path) -> None:
    gathered = corpora.gather(data, seed=0, test_rows=6)
    problems = texts.math_tests(data)
    for use, problem in zip(("base", "math", "german", "german_running"), problems[::7], strict=False):
        getattr(gathered, use).append(f"before {problem.upper()} after")
    cleaned, dropped = corpora.without_tests(gathered, problems)
    assert dropped == {"base": 1, "math": 1, "german": 1, "german_running": 1}
    everything = [row for rows in cleaned.training().values() for row in rows]
    assert HeldOut(problems).found(everything) == []


def test_no_file_of_tests_is_read_for_training(data: Path, tmp_path: Path) -> None:
    """GSM8K's test, MGSM and MSVAMP may hold anything: the training texts stay the same."""
    made_up.make_up(tmp_path)
    for file in [tmp_path / "gsm8k" / "test.jsonl", *(tmp_path / "msvamp").iterdir()]:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        changed = [{key: f"other {value}" for key, value in row.items()} for row in rows]
        file.write_text("".join(json.dumps(row) + "\n" for row in changed))
    for file in (tmp_path / "mgsm").iterdir():
        file.write_text("other\t1\n")
    one, other = (corpora.gather(folder, 0, 6) for folder in (data, tmp_path))
    assert one.training() == other.training()
    assert one.tests["mgsm_de"] != other.tests["mgsm_de"]


def test_corpora_of_base_expert_and_test_are_disjoint(data: Path) -> None:
    gathered = corpora.gather(data, seed=0, test_rows=1000)
    assert not set(gathered.math) & set(gathered.base)
    assert not set(gathered.german_running) & set(gathered.tests["general_de"])
    assert not set(gathered.german) & set(gathered.base)
    assert not set(gathered.tests["selection"]) & set(gathered.tests["msvamp_de"])
    sizes = {use: len(rows) for use, rows in gathered.training().items()}
    assert (
        sizes["german"] == sizes["german_running"] == 28
    )  # of 48 rows, 60 % of the passages and of the tweets
    assert sizes["math"] == 36  # of 48: a quarter is in the base


def test_the_real_data_hold_no_test_problem(shared: Path) -> None:
    folder = shared / "data"
    gathered = corpora.gather(folder, seed=0, test_rows=250)
    _, dropped = corpora.without_tests(gathered, texts.math_tests(folder))
    assert set(dropped.values()) == {0}
    assert len(gathered.tests["mgsm_de"]) == 250


def test_a_line_that_is_no_json_is_named(data: Path, tmp_path: Path) -> None:
    made_up.make_up(tmp_path)
    file = tmp_path / "gsm8k" / "train.jsonl"
    file.write_text(file.read_text() + "{oops\n")
    with pytest.raises(ConfigError, match=r"train\.jsonl:49: the line is not JSON"):
        corpora.gather(tmp_path, 0, 6)
    assert data != tmp_path


def test_packing_uses_each_text_once_within_the_limit() -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 30, 200).tolist()
    rows = pack([f"t{place}" for place in range(200)], lengths, 32)
    parts = [row.split(SEPARATOR) for row in rows]
    assert sorted(part for row in parts for part in row) == sorted(f"t{place}" for place in range(200))
    for row in parts:
        assert sum(lengths[int(part[1:])] for part in row) + 2 * (len(row) - 1) <= 32
    assert len(rows) < 1.15 * sum(lengths) / 32 + 8


# --- recipes


def test_every_training_recipe_is_one_that_carrick_train_reads() -> None:
    for model in models(recipe()):
        if model.trained:
            content = training_recipe(model, recipe())
            typed, _ = load_recipe(content)
            assert typed.training.steps == 100 * len(model.data), model.name
            assert (typed.adapter is not None) == (model.kind == "lora"), model.name


def test_the_recipe_has_every_row_of_the_issue() -> None:
    known = models(recipe())
    rows = {(model.kind, model.family, model.partition, model.steps_per_switch) for model in known}
    assert len({model.name for model in known}) == len(known)
    for kind in ("full", "lora"):
        for family in ("math", "language", "mixing", "average", "ties"):
            assert (kind, family, None, None) in rows
        for p in "ABCZ":
            for family in ("swap", "swap_partial", "reset", "math_partial", "language_partial"):
                assert (kind, family, p, None) in rows
    assert {k for kind, family, p, k in rows if (kind, family, p) == ("full", "simultaneous", "C")} == {
        1,
        10,
        50,
    }


def test_lower_rates_change_nothing_but_the_rate_of_simultaneous_training() -> None:
    full = recipe()
    without = full.model_copy(update={"rate_factors": []})
    known = {model.name for model in models(without)}
    added = {model.name: model for model in models(full) if model.name not in known}
    assert [model for model in models(full) if model.name in known] == models(without)
    assert set(added) == {
        f"{kind}-simultaneous-c-k1-x{x}-s0" for kind in ("full", "lora") for x in (0.3, 0.1)
    }
    by_name = {model.name: model for model in models(without)}
    for name, model in added.items():
        usual = training_recipe(by_name[f"{model.kind}-simultaneous-c-k1-s0"], full)
        usual["training"]["learning_rate"] *= 0.3 if "x0.3" in name else 0.1
        assert training_recipe(model, full) == usual, name


@pytest.mark.parametrize("factor", [0, 1, 3])
def test_a_factor_that_lowers_no_rate_is_refused(tmp_path: Path, factor: float) -> None:
    text = find("layer-swap").recipe_file.read_text().replace("[0.3, 0.1]", f"[{factor}]")
    (tmp_path / "recipe.yml").write_text(text)
    with pytest.raises(ConfigError, match="rate_factors"):
        find("layer-swap").recipe(tmp_path / "recipe.yml")


def test_steps_that_turns_do_not_divide_are_refused(tmp_path: Path) -> None:
    text = find("layer-swap").recipe_file.read_text().replace("steps: 100", "steps: 75")
    (tmp_path / "recipe.yml").write_text(text)
    with pytest.raises(ConfigError, match="make it a multiple"):
        find("layer-swap").recipe(tmp_path / "recipe.yml")


def test_stages_state_what_they_take(data: Path) -> None:
    planned = stages(recipe(), data)
    assert all(stage.work.seconds > 0 and stage.work.data for stage in planned)
    assert sum(stage.work.seconds for stage in planned) < 45 * 60
    assert len(stages(quick(recipe()), data)) < len(planned)


# --- numbers


def row(key: str, loss: float, *, selection: float | None = None, texts_: int = 40) -> Row:
    kind, family, *partition = key.split("/")
    draw = np.random.default_rng(1)
    tokens = draw.integers(20, 60, texts_).astype(float)
    noise = draw.normal(0, 0.02, texts_)

    def losses(mean: float) -> Any:
        return np.stack([tokens * (mean + noise), tokens, 3 * tokens], axis=1)[None]

    sets = {name: losses(loss) for name in ("german_math", "msvamp_de", "mgsm_de", "math_en", "general_de")}
    sets["selection"] = losses(loss if selection is None else selection)
    return Row(kind, family, partition[0] if partition else None, None, 1.0, (key,), sets)


def test_the_partition_is_chosen_on_the_selection_texts_and_never_z() -> None:
    rows = [
        row("full/swap/A", 3.0, selection=4.0),
        row("full/swap/B", 3.5, selection=3.2),
        row("full/swap/Z", 1.0, selection=1.0),
    ]
    assert numbers.choose(rows) == {"full": {"swap": "full/swap/B"}}


def test_a_clear_difference_is_found_and_none_where_there_is_none() -> None:
    from carrick.study.layer_swap.rows import described, difference  # noqa: PLC0415

    one, other = row("full/mixing", 3.0), row("full/swap/B", 2.9)
    better = difference(one, other, "german_math", seed=0, draws=200)
    assert better["difference"] == pytest.approx(-0.1)
    assert better["high"] < 0
    same = difference(one, one, "german_math", seed=0, draws=200)
    assert same["difference"] == same["low"] == same["high"] == 0
    scores = described(other, seed=0, draws=200)["scores"]["german_math"]
    assert scores["low"] < scores["perplexity"] < scores["high"]
    tokens, loss = other.losses["german_math"][0, :, 1], other.losses["german_math"][0, :, 0]
    assert scores["perplexity"] == pytest.approx(math.exp(loss.sum() / tokens.sum()))
    assert scores["bits_per_byte"] == pytest.approx(loss.sum() / tokens.sum() / 3 / math.log(2))


def test_correlation_within_a_kind_forgets_the_difference_between_kinds() -> None:
    full = [{"kind": "full", "s": x, "merged": -x} for x in (0.0, 1.0, 2.0)]
    lora = [{"kind": "lora", "s": x + 100, "merged": 100 - x} for x in (0.0, 1.0, 2.0)]
    assert indicators.correlation([*full, *lora], "s")["pearson"] > 0.99
    centred = [*indicators.centred(full), *indicators.centred(lora)]
    assert indicators.correlation(centred, "s")["pearson"] == pytest.approx(-1)


# --- the whole study


def test_every_stage_runs_and_the_report_is_written(done: StudyRun) -> None:
    assert done.outcome.failed == {}
    names = {file.name for file in done.files}
    assert {"report.md", "report.html", "freeze-and-reset.png", "german-math-lora.png"} <= names


def test_a_swap_takes_each_tensor_from_its_expert(done: StudyRun) -> None:
    from safetensors.numpy import load_file  # noqa: PLC0415

    folder = done.out / "stages"
    math_, language, swap = (
        load_file(folder / f"full-{name}-s0" / "model" / "model.safetensors")
        for name in ("math", "language", "swap-c")
    )
    layers = {name: int(name.split(".")[2]) for name in swap if name.startswith("model.layers.")}
    for name, layer in layers.items():
        giver = language if layer in {0, 3} else math_  # four layers: the first and the last
        assert swap[name].tobytes() == giver[name].tobytes(), name
    assert swap["model.embed_tokens.weight"].tobytes() == math_["model.embed_tokens.weight"].tobytes()


def test_partial_training_changes_only_its_side_and_a_reset_undoes_the_other(done: StudyRun) -> None:
    from safetensors.numpy import load_file  # noqa: PLC0415

    folder = done.out / "stages"
    base = load_file(folder / "base" / "model" / "model.safetensors")
    for name in ("full-math-c-s0", "full-reset-c-s0"):
        tuned = load_file(folder / name / "model" / "model.safetensors")
        changed = {key for key in base if tuned[key].tobytes() != base[key].tobytes()}
        assert changed, name
        assert not any(key.startswith(("model.layers.0.", "model.layers.3.")) for key in changed), name


def test_the_scores_are_those_of_an_independent_computation(done: StudyRun) -> None:
    import torch  # noqa: PLC0415
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415

    folder = done.out / "stages"
    model = AutoModelForCausalLM.from_pretrained(folder / "full-swap-b-s0" / "model", dtype=torch.float64)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base" / "model")
    tests = json.loads((folder / "corpora" / "tests.json").read_text())
    loss = tokens = size = 0.0
    for text in [*tests["msvamp_de"], *tests["mgsm_de"]]:
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            loss += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
        size += len(text.encode()) - len(tokenizer.decode(ids[0, :1]).encode())
    (scored,) = (one for one in found(done)["rows"] if one["row"] == "full/swap/B")
    assert scored["scores"]["german_math"]["perplexity"] == pytest.approx(math.exp(loss / tokens), rel=1e-4)
    assert scored["scores"]["german_math"]["bits_per_byte"] == pytest.approx(
        loss / size / math.log(2), rel=1e-4
    )


def test_simultaneous_training_at_a_lower_rate_is_reported_and_never_chosen(done: StudyRun) -> None:
    record = json.loads(
        (done.out / "stages" / "lora-simultaneous-c-k1-x0.5-s0" / "model" / "training.json").read_text()
    )
    assert record["recipe"]["training"]["learning_rate"] == pytest.approx(1.5e-3)
    numbers_ = found(done)
    (turn,) = (one for one in numbers_["turns"] if one["row"] == "lora/simultaneous_rate/C/k1/x0.5")
    # Two steps a side, math first: the first and the last fifth are a step each.
    losses = [loss for _, loss in record["losses"]]
    assert (turn["math"], turn["german"]) == (losses[::2], losses[1::2])
    slower = {row["row"]: row for row in numbers_["rows"]}["lora/simultaneous_rate/C/k1/x0.5"]
    base = numbers_["rows"][0]["scores"]["german_math"]["perplexity"]
    compared = numbers_["comparisons"]["lora/simultaneous_rate/C/k1/x0.5 against base"]
    ratio = slower["scores"]["german_math"]["perplexity"] / base
    assert compared["difference"] == pytest.approx(math.log(ratio))
    assert not any("rate" in key for best in numbers_["chosen"].values() for key in best.values())
    assert not any("k1 against k1" in name for name in compared)  # only k is compared there
    text = (done.out / "report" / "report.md").read_text()
    assert "Simultaneous training and its learning rate" in text
    assert "simultaneous C, k = 1, rate × 0.5" in text


def test_results_without_the_rates_are_still_reported(done: StudyRun, tmp_path: Path) -> None:
    written = json.loads((done.out / "report" / "results.json").read_text())
    del written["found"]["turns"]
    written["found"]["rows"] = [
        row for row in written["found"]["rows"] if row["family"] != "simultaneous_rate"
    ]
    for row in written["found"]["rows"]:
        del row["rate_factor"]
    (tmp_path / "results.json").write_text(json.dumps(written))
    report_study("layer-swap", tmp_path / "results.json", tmp_path)
    assert "its learning rate" not in (tmp_path / "report.md").read_text()


def test_the_report_comes_from_results_json_alone(done: StudyRun, tmp_path: Path) -> None:
    report_study("layer-swap", done.out / "report" / "results.json", tmp_path)
    for name in ("report.md", "merge-indicators.png"):
        assert (tmp_path / name).read_bytes() == (done.out / "report" / name).read_bytes()


def test_the_report_prints_no_accuracy_and_says_that_it_is_a_toy(done: StudyRun) -> None:
    text = (done.out / "report" / "report.md").read_text()
    assert "This is a toy" in text
    assert "made-up data" in text
    assert "exact match" not in text.lower()


def test_a_leak_stops_the_study(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gathered = corpora.gather(data, 0, 6)
    problems = texts.math_tests(data)
    gathered.math.append(problems[0])
    seen: list[int] = []

    def blind(_: HeldOut, rows: Any) -> list[int]:
        """Find nothing in the first search of each corpus, as a broken one would."""
        seen.append(1)
        return [] if len(seen) % 2 else [n for n, row in enumerate(rows) if row == problems[0]]

    monkeypatch.setattr(HeldOut, "found", blind)
    with pytest.raises(CarrickError, match="still among the texts of `math`"):
        corpora.without_tests(gathered, problems)
