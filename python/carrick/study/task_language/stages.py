"""The stages of the study of task and language adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.study.base_model import locate
from carrick.study.languages import training as shared_training
from carrick.study.languages import tweets
from carrick.study.stage import Stage, Work
from carrick.study.task_language import work
from carrick.study.task_language.models import Model, models

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carrick.study.task_language.recipe import TaskLanguage


def all_stages(recipe: TaskLanguage, data: Path) -> list[Stage]:
    """Return data, head, every adapter and its scores."""
    files = {"base": locate(recipe.base, data)}
    found = [_prepare(recipe, data / recipe.data_set, code) for code in recipe.languages]
    found.append(_head(recipe, files))
    for model in models(recipe):
        if model.way == "train":
            found.append(_train(recipe, model, files))
        elif model.way == "merge":
            found.append(_merge(model, files))
        if model.scored:
            found.append(_score(recipe, model, files))
    return found


def training_recipe(recipe: TaskLanguage, model: Model) -> dict[str, Any]:
    """Return how an adapter is trained, as `carrick.train` takes it; paths as `placed` reads them."""
    settings = dict(model.settings)
    method = settings.pop("method", "fine_tune")
    training = recipe.training.model_dump()
    training |= {"epochs": float(settings.pop("epochs")), "seed": model.seed, "keep": "last"}
    if "learning_rate" in settings:
        training["learning_rate"] = settings.pop("learning_rate")
    if training["schedule"] == "constant":
        training.pop("warmup")
    sources = [{"file": f"@data-{code}/train.jsonl", "language": code} for code in model.languages]
    data: dict[str, Any] = {
        "train": sources,
        "columns": {"text": "text", "label": "label"},
        "seed": model.seed,
    }
    if "sample" in settings:
        data["sample"] = settings.pop("sample")
    content: dict[str, Any] = {
        "base": "@file:base",
        "task": "classification",
        "head": "@head/head",
        "method": method,
        "data": data,
        "training": training,
        **settings,
    }
    if method in {"fine_tune", "language_adapter"}:
        content["adapter"] = recipe.adapter.model_dump()
    places = [f"@{name}/{shared_training.ADAPTER}" for name in model.adapters]
    if method == "mixture":
        content["adapters"] = places
    elif method == "alignment":
        content["task_adapter"], content["language_adapter"] = places
    elif method == "language_adapter":
        (content["task_adapter"],) = places
    return content


def _prepare(recipe: TaskLanguage, folder: Path, code: str) -> Stage:
    name = recipe.languages[code]
    return Stage(
        f"data-{code}",
        tweets.prepare,
        {"language": code, "labels": recipe.labels, "share": 0.5},
        files=tweets.files_of(folder, name),
        version=tweets.VERSION,
        work=Work(data=f"tweets, {name}", seconds=0.2),
    )


def _head(recipe: TaskLanguage, files: Mapping[str, Path]) -> Stage:
    pace, code = recipe.pace, recipe.task_language
    params = {"language": code, "labels": recipe.labels, "max_length": recipe.training.max_length}
    return Stage(
        "head",
        shared_training.fit,
        params,
        needs=(f"data-{code}",),
        files=files,
        version=shared_training.HEAD_VERSION,
        work=Work(
            data=f"{pace.train_rows:,} rows of {code}, frozen features",
            tokens=round(pace.train_rows * pace.tokens),
            seconds=2 * pace.thousand_rows * pace.train_rows / 1000,
        ),
    )


def _train(recipe: TaskLanguage, model: Model, files: Mapping[str, Path]) -> Stage:
    pace = recipe.pace
    rows = (
        len(model.languages) * pace.train_rows * model.settings.get("sample", 1.0) * model.settings["epochs"]
    )
    steps = max(1, round(rows / recipe.training.batch_size))
    data = [f"data-{code}" for code in model.languages]
    # Two adapters in every layer cost more than one.
    factor = 1.0 + 0.3 * len(model.adapters)
    return Stage(
        model.name,
        work.train,
        {"recipe": training_recipe(recipe, model)},
        needs=("head", *data, *model.adapters),
        files=files,
        version=work.VERSION,
        work=Work(
            data=f"{round(rows):,} rows of {' '.join(model.languages)}",
            steps=steps,
            tokens=round(rows * pace.tokens),
            seconds=steps * pace.step * factor + 4,
        ),
    )


def _merge(model: Model, files: Mapping[str, Path]) -> Stage:
    params = {**model.settings, "adapters": list(model.adapters), "seed": model.seed}
    return Stage(
        model.name,
        work.merge,
        params,
        needs=model.adapters,
        files=files,
        version=work.VERSION,
        work=Work(data="two adapters", seconds=0.7),
    )


def _score(recipe: TaskLanguage, model: Model, files: Mapping[str, Path]) -> Stage:
    pace = recipe.pace
    codes = list(recipe.languages) if model.target is None else [recipe.task_language, model.target]
    splits = ["test", "val"] if model.candidate else ["test"]
    rows = len(codes) * (pace.test_rows + (pace.validation_rows if model.candidate else 0))
    adapter = None if model.way == "none" else model.name
    return Stage(
        f"score-{model.name}",
        work.score,
        {
            "languages": codes,
            "splits": splits,
            "adapter": adapter,
            "max_length": recipe.training.max_length,
            "batch_size": recipe.eval_batch_size,
            "precision": recipe.eval_precision,
        },
        needs=("head", *(f"data-{code}" for code in codes), *([] if adapter is None else [adapter])),
        files=files,
        version=work.VERSION,
        work=Work(
            data=f"{rows:,} rows of {' '.join(codes)}",
            tokens=round(rows * pace.tokens),
            seconds=rows / 1000 * pace.thousand_rows + 2,
        ),
    )
