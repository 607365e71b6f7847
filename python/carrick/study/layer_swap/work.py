"""What the stages of the study do."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from carrick.study.inputs import placed
from carrick.study.layer_swap import corpora, texts
from carrick.study.layer_swap.scores import score_texts, summary
from carrick.study.layer_swap.toy_model import make_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carrick.study.stage import Running


def prepare(running: Running) -> dict[str, Any]:
    """Share out the texts, prove that no test is among them, make tokenizer, rows and the model to start from."""
    params = running.params
    data = next(iter(running.files.values())).parent
    running.say("looking for test problems in the training texts")
    found, dropped = corpora.without_tests(
        corpora.gather(data, params["seed"], params["test_rows"]), texts.math_tests(data)
    )
    running.say("training the tokenizer")
    counts = corpora.write(
        found, running.folder, vocabulary=params["vocabulary"], row_tokens=params["row_tokens"]
    )
    start = running.folder / "start"
    size = len(json.loads((running.folder / "tokenizer" / "tokenizer.json").read_text())["model"]["vocab"])
    shape = {key: params[key] for key in ("width", "layers", "heads", "length")}
    parameters = make_model(start, vocabulary=size, seed=params["seed"], **shape)
    shutil.copytree(running.folder / "tokenizer", start, dirs_exist_ok=True)
    return {
        "counts": counts,
        "texts_with_a_test_problem": dropped,
        "test_problems": len(texts.math_tests(data)),
        "vocabulary": size,
        "parameters": parameters,
    }


def train(running: Running) -> dict[str, Any]:
    """Train a model by its recipe."""
    from carrick.train import train as run_recipe  # noqa: PLC0415  (torch and others)

    out = running.folder / "model"
    if not (out / "training.json").exists():
        run_recipe(placed(running.params["recipe"], running), out, device="cpu", progress=False)
    record = json.loads((out / "training.json").read_text())
    kept = ("steps", "tokens", "wall_seconds", "trainable_parameters")
    return {key: record[key] for key in kept if key in record}


def merge(running: Running) -> dict[str, Any]:
    """Merge experts, or put a part of one back to the base."""
    out = running.folder / "model"
    shutil.rmtree(out, ignore_errors=True)
    params = running.params
    experts = [running.needs[name].folder / "model" for name in params["experts"]]
    base = running.files.get("base") or running.needs["base"].folder / "model"
    if params["way"] == "reset":
        _reset(params, base, experts[0], out)
    elif params["kind"] == "full":
        _merge_checkpoints(params, base, experts, out)
    else:
        _merge_adapters(params, base, experts, out)
    return {}


def score(running: Running) -> dict[str, Any]:
    """Score a model on the test texts; the loss of every text goes to ``texts.json``."""
    tests = json.loads((running.needs["corpora"].folder / "tests.json").read_text(encoding="utf-8"))
    base = running.needs["base"].folder / "model"
    model = running.needs[running.params["model"]].folder / "model"
    adapter = (model / "adapter_config.json").exists()
    found = score_texts(tests, model, base=base if adapter else None, batch_size=16)
    (running.folder / "texts.json").write_text(json.dumps(found), encoding="utf-8")
    return summary(found)


def _reset(params: Mapping[str, Any], base: Path, tuned: Path, out: Path) -> None:
    from carrick.train.recipe import Partition  # noqa: PLC0415
    from carrick.train.reset import reset  # noqa: PLC0415

    reset(base, tuned, out, Partition(name=params["partition"], side=params["side"]))


def _merge_checkpoints(params: Mapping[str, Any], base: Path, experts: list[Path], out: Path) -> None:
    from carrick.merge import merge as run_merge  # noqa: PLC0415

    math, language = (str(path) for path in experts)
    document: dict[str, Any]
    if params["way"] == "swap":
        models: list[dict[str, Any]] = [
            {"model": math, "parameters": {"role": "task"}},
            {"model": language, "parameters": {"role": "language"}},
        ]
        parameters = {"partition": params["partition"], "embeddings": params["embeddings"]}
        document = {"merge_method": "layer_swap", "models": models, "parameters": parameters}
    elif params["way"] == "average":
        models = [{"model": path, "parameters": {"weight": 0.5}} for path in (math, language)]
        document = {"merge_method": "linear", "models": models}
    else:
        own = {"weight": 1.0, "density": params["density"]}
        models = [{"model": path, "parameters": own} for path in (math, language)]
        document = {"merge_method": "ties", "base_model": str(base), "models": models}
    run_merge(document, out, threads=params.get("threads", 1))


def _merge_adapters(params: Mapping[str, Any], base: Path, experts: list[Path], out: Path) -> None:
    from carrick.adapters import merge as run_merge  # noqa: PLC0415

    if params["way"] == "swap":
        run_merge(experts, out, method="layer_swap", parameters={"partition": params["partition"]}, threads=1)
    elif params["way"] == "average":
        run_merge(experts, out, method="cat", weights=[0.5, 0.5], threads=1)
    else:
        # Its result has full rank, of which nothing is cut away unless a rank is given.
        width = params.get("rank") or json.loads((base / "config.json").read_text())["hidden_size"]
        run_merge(experts, out, method="ties", density=params["density"], rank=width, threads=1)
