"""The stages of the paper's experiments: for each model and split the adapters of the study of task and language."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick.study import device_time, language_models
from carrick.study.base_model import locate
from carrick.study.mlm import rows
from carrick.study.stage import Stage, Work
from carrick.study.task_language.models import Model, models

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study.mlm.recipe import Experiment, Mlm
    from carrick.study.stage import Running

VERSION = 1
_FULL_RANK = {"ties", "dare_linear"}


def all_stages(recipe: Mlm, data: Path, device: str) -> list[Stage]:
    """Return splits, adapters and scores of every experiment."""
    splits = dict.fromkeys(each.split for each in recipe.experiments)
    found = [_split(recipe, data, split) for split in splits]
    for experiment in recipe.experiments:
        build = Build(recipe, experiment, locate(recipe.models[experiment.model].base, data), device)
        for model in models(recipe):
            found += build.of(model)
    return found


def _split(recipe: Mlm, data: Path, split: str) -> Stage:
    params = {
        "languages": recipe.languages,
        "split": {"share": recipe.splits[split], "seed": 0},
        "shots": max(recipe.shots),
    }
    files = {code: data / rows.FOLDER / f"{code}.jsonl" for code in recipe.languages}
    work = Work(data=f"{recipe.plan.rows:,} questions in {' '.join(recipe.languages)}")
    return Stage(f"split-{split}", rows.split, params, files=files, version=rows.VERSION, work=work)


class Build:
    """Stages of one model on one split.

    Parameters
    ----------
    recipe, experiment
        What is done.
    base
        Folder of the base model.
    device
        Torch device of training and scoring.
    """

    def __init__(self, recipe: Mlm, experiment: Experiment, base: Path, device: str) -> None:
        self._recipe, self._device, self._files = recipe, device, {"base": base}
        self._prefix, self._split = f"{experiment.model}-{experiment.split}", f"split-{experiment.split}"
        self._parameters = recipe.models[experiment.model].parameters
        self._share = recipe.splits[experiment.split]

    def name(self, model: str) -> str:
        """Name of a model's stage: ``1b-80-20-es-single-s0``."""
        return f"{self._prefix}-{model}"

    def of(self, model: Model) -> list[Stage]:
        """Return the stages of a model of the study: training or merge, and scores."""
        found = []
        if model.way == "train":
            found.append(self._train(model))
        elif model.way == "merge":
            found.append(self._merge(model))
        if model.scored:
            shots = self._recipe.shots if model.way == "none" else [0]
            found.append(self._score(model, shots))
        return found

    def training_recipe(self, model: Model) -> dict[str, Any]:
        """Return how an adapter is trained, as `carrick.train` takes it; paths as `placed` reads them."""
        recipe, settings = self._recipe, dict(model.settings)
        method = settings.pop("method", "fine_tune")
        training = recipe.training.model_dump()
        training |= {"epochs": float(settings.pop("epochs")), "seed": model.seed, "keep": "last"}
        if "learning_rate" in settings:
            training["learning_rate"] = settings.pop("learning_rate")
        sources = [
            {"file": f"@{self._split}/train-{code}.jsonl", "language": code} for code in model.languages
        ]
        columns = {"prompt": "prompt", "completion": "completion"}
        data: dict[str, Any] = {"train": sources, "columns": columns, "seed": model.seed}
        if "sample" in settings:
            data["sample"] = settings.pop("sample")
        cost = {"price": recipe.device.price, "currency": recipe.device.currency}
        content: dict[str, Any] = {"base": "@file:base", "task": "causal", "method": method, "data": data}
        content |= {"training": training, "cost": cost, **settings}
        if method in {"fine_tune", "language_adapter"}:
            content["adapter"] = recipe.adapter.model_dump()
        if self._searched(model):
            content["search"] = recipe.search.model_dump()
        places = [f"@{self.name(name)}/{language_models.MODEL}" for name in model.adapters]
        if method == "mixture":
            content["adapters"] = places
        elif method == "alignment":
            content["task_adapter"], content["language_adapter"] = places
        elif method == "language_adapter":
            (content["task_adapter"],) = places
        return content

    def _searched(self, model: Model) -> bool:
        """Whether the grid is run: for adapters of a single language."""
        return model.family in {"task_adapter", "single"}

    def _train(self, model: Model) -> Stage:
        recipe, plan = self._recipe, self._recipe.plan
        rows_of_one = plan.rows * self._share * model.settings.get("sample", 1.0) * model.settings["epochs"]
        runs = (
            len(recipe.search.learning_rate) * len(recipe.search.weight_decay) if self._searched(model) else 1
        )
        seen = rows_of_one * len(model.languages) * runs
        tokens = sum(plan.tokens[code] for code in model.languages) / len(model.languages) + plan.answer
        data = f"{round(seen):,} rows of {' '.join(model.languages)}" + (
            f", {runs} trainings" if runs > 1 else ""
        )
        work = device_time.trained(
            recipe.device,
            data,
            parameters=self._parameters,
            rows=seen,
            tokens=tokens,
            batch=recipe.training.batch_size,
            lora=True,
        )
        params = {"recipe": self.training_recipe(model), "device": self._device}
        needs = (self._split, *(self.name(name) for name in model.adapters))
        return Stage(
            self.name(model.name),
            language_models.train,
            params,
            needs,
            self._files,
            language_models.VERSION,
            work,
        )

    def _merge(self, model: Model) -> Stage:
        adapters = [self.name(name) for name in model.adapters]
        params = {**model.settings, "adapters": adapters, "seed": model.seed}
        work = device_time.merged(self._recipe.device, "two adapters", self._parameters)
        return Stage(self.name(model.name), merge, params, tuple(adapters), self._files, VERSION, work)

    def _score(self, model: Model, shots: list[int]) -> Stage:
        recipe, plan = self._recipe, self._recipe.plan
        codes = recipe.languages if model.target is None else [recipe.task_language, model.target]
        test = plan.rows * (1 - self._share)
        prompt = sum(plan.tokens[code] * (1 + k) for code in codes for k in shots) / len(codes) / len(shots)
        answer = plan.answer if model.way != "none" else recipe.max_new_tokens
        count = test * len(codes) * len(shots)
        work = device_time.scored(
            recipe.device,
            f"{round(count):,} test rows of {' '.join(codes)}",
            parameters=self._parameters,
            rows=count,
            prompt=prompt,
            answer=answer,
        )
        params = {
            "model": None if model.way == "none" else self.name(model.name),
            "data": f"@{self._split}",
            "evaluations": [
                {
                    "task": rows.FOLDER,
                    "languages": list(codes),
                    "shots": k,
                    "max_new_tokens": recipe.max_new_tokens,
                }
                for k in shots
            ],
            "device": self._device,
        }
        own = () if model.way == "none" else (self.name(model.name),)
        name = f"score-{self.name(model.name)}"
        needs = (self._split, *own)
        return Stage(name, language_models.score, params, needs, self._files, language_models.VERSION, work)


def merge(running: Running) -> None:
    """Stage: merge two adapters without training, and without loss."""
    from carrick.adapters import merge as merge_adapters  # noqa: PLC0415

    params = running.params
    config = json.loads((running.files["base"] / "config.json").read_text(encoding="utf-8"))
    method = params["method"]
    merge_adapters(
        [str(running.needs[name].folder / language_models.MODEL) for name in params["adapters"]],
        running.folder / language_models.MODEL,
        method=method,
        density=params.get("density"),
        weights=params.get("weights"),
        rank=config["hidden_size"] if method in _FULL_RANK else None,
        seed=params["seed"] if "dare" in method else None,
        force=True,
    )
