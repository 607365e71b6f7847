"""The stages of the paper's experiments: training, merges and scores of every condition."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carrick.study import device_time, language_models
from carrick.study.base_model import locate
from carrick.study.layer_swap import work as layer_swap
from carrick.study.layer_swap.training import LINEAR
from carrick.study.stage import Stage
from carrick.study.xlt.conditions import Condition, conditions, models, needs_language

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study.layer_swap.models import Model
    from carrick.study.xlt.recipe import Xlt

_SHOWN = ("kind", "way", "partition", "side", "embeddings")
_INDICATORS = ("belebele", "global_mmlu")
BASE = "base"


def all_stages(recipe: Xlt, data: Path, device: str) -> list[Stage]:
    """Return the stages of all conditions; what several of them share is there once."""
    found: dict[str, Stage] = {}
    for condition in conditions(recipe):
        build = Build(recipe, condition, data, device)
        for stage in build.all():
            found.setdefault(stage.name, stage)
    return list(found.values())


class Build:
    """Stages of one condition.

    Parameters
    ----------
    recipe, condition
        What is done.
    data, device
        Folder of the data sets, and torch device of training and scoring.
    """

    def __init__(self, recipe: Xlt, condition: Condition, data: Path, device: str) -> None:
        self._recipe, self._condition, self._data, self._device = recipe, condition, data, device
        self._model = recipe.models[condition.base]
        continual = recipe.continual if condition.continual else None
        self._count = recipe.rows if continual is None else continual.rows
        self._base = {"base": locate(self._model.base, data)}

    def all(self) -> list[Stage]:
        """Return training or merge, and scores, of the base and of every row."""
        found = [self._score(None)]
        for model in models(self._recipe, self._condition):
            found += [self._train(model) if model.trained else self._merge(model), self._score(model)]
        return found

    def training_recipe(self, model: Model) -> dict[str, Any]:
        """Return how a model is trained, as `carrick.train` takes it; paths as `placed` reads them."""
        recipe = self._recipe
        lora = model.kind == "lora"
        training = {**recipe.sft.model_dump(), "seed": model.seed, "keep": "best"}
        if lora:
            training["learning_rate"] = recipe.lora.learning_rate
        content: dict[str, Any] = {"base": "@file:base", "task": "causal", "training": training}
        content["cost"] = {"price": recipe.device.price, "currency": recipe.device.currency}
        if model.way == "simultaneous":
            training["accumulate"] = 2 * recipe.sft.accumulate
            content |= {"method": "simultaneous", "steps_per_switch": model.steps_per_switch}
            # As much of both (section 4.5), for training and for validation.
            validation = {"validation": {"fraction": recipe.validation}}
            sides = {"task": "math", "language": "language"}
            content["sources"] = {name: {**self._rows(side), **validation} for name, side in sides.items()}
        else:
            blocks = [self._rows("math" if name == "math" else "language") for name in model.data]
            content["data"] = {
                **blocks[0],
                "train": [block["train"] for block in blocks],
                "validation": {"fraction": recipe.validation},
            }
        if model.partition is not None:
            content["partition"] = {"name": model.partition, **({"side": model.side} if model.side else {})}
        if lora:
            content["adapter"] = {
                "rank": recipe.lora.rank,
                "alpha": float(recipe.lora.alpha),
                "rslora": True,
                "targets": list(LINEAR),
            }
        return content

    def _files(self, model: Model) -> dict[str, Path]:
        """Files that a training reads, by side."""
        continual = self._recipe.continual if self._condition.continual else None
        language = self._condition.language if continual is None else continual.text
        math = "train" if continual is None else continual.math
        sides = {"math": self._data / "math" / f"{math}.jsonl"}
        if needs_language(model):
            sides["language"] = self._data / "language" / f"{language}.jsonl"
        return {**self._base, **sides}

    def _rows(self, side: str) -> dict[str, Any]:
        continual = self._condition.continual
        columns = {"text": "text"} if continual else {"prompt": "prompt", "completion": "completion"}
        return {"train": {"file": f"@file:{side}", "rows": self._count}, "columns": columns}

    def _train(self, model: Model) -> Stage:
        recipe, tokens = self._recipe, self._recipe.plan.tokens
        rows = self._count * (1.0 - recipe.validation) * recipe.sft.epochs
        codes = ["math" if name == "math" else self._condition.language for name in model.data]
        # Running text fills its rows.
        lengths = [recipe.sft.max_length if self._condition.continual else tokens[code] for code in codes]
        batch = recipe.sft.batch_size * recipe.sft.accumulate * (2 if model.way == "simultaneous" else 1)
        work = device_time.trained(
            recipe.device,
            f"{round(rows):,} rows each of {' + '.join(codes)}",
            parameters=self._model.parameters,
            rows=rows * len(codes),
            tokens=sum(lengths) / len(lengths),
            batch=batch,
            lora=model.kind == "lora",
        )
        params = {"recipe": self.training_recipe(model), "device": self._device}
        name = self._condition.name(model)
        files = self._files(model)
        return Stage(name, language_models.train, params, (), files, language_models.VERSION, work)

    def _merge(self, model: Model) -> Stage:
        experts = [self._named(name) for name in model.experts]
        params = {key: value for key, value in asdict(model).items() if key in _SHOWN}
        params |= {"experts": experts, "density": self._recipe.ties_density, "threads": None}
        work = device_time.merged(self._recipe.device, "two experts", self._model.parameters)
        return Stage(
            self._condition.name(model), layer_swap.merge, params, tuple(experts), self._base, work=work
        )

    def _named(self, name: str) -> str:
        """Name of an expert's stage in this condition."""
        (expert,) = (each for each in models(self._recipe, self._condition) if each.name == name)
        return self._condition.name(expert)

    def _score(self, model: Model | None) -> Stage:
        recipe = self._recipe
        name = f"{self._condition.base}-{BASE}" if model is None else self._condition.name(model)
        one_language = model is not None and needs_language(model)
        codes = [self._condition.language] if one_language else list(recipe.languages)
        evaluations = [self._evaluation("mgsm", [*codes, "en"])]
        selected = [code for code in codes if code in recipe.selection_languages]
        if selected:
            evaluations.append(self._evaluation(recipe.selection, selected))
        expert = model is None or not model.experts
        if expert:
            evaluations += [self._evaluation(task, codes) for task in _INDICATORS if task in recipe.shots]
        generated = len(codes) + 1 + 4 * len(selected)  # MSVAMP has four times MGSM's rows
        mgsm, choices = recipe.plan.mgsm, recipe.plan.choices
        compared = choices.rows * choices.prompt * 4 * len(codes) * len(_INDICATORS) if expert else 0.0
        rows = generated * mgsm.rows
        work = device_time.scored(
            recipe.device,
            f"{rows:,} problems of {' '.join([*codes, 'en'])}" + (", two sets of choices" if expert else ""),
            parameters=self._model.parameters,
            rows=rows,
            prompt=mgsm.prompt + compared / rows,
            answer=mgsm.answer,
        )
        params = {
            "model": None if model is None else name,
            "data": "@file:mgsm/..",
            "evaluations": evaluations,
            "device": self._device,
        }
        tasks = dict.fromkeys(each["task"] for each in evaluations)
        files = {**self._base, **{task: self._data / task for task in tasks}}
        needs = () if model is None else (name,)
        return Stage(
            f"score-{name}", language_models.score, params, needs, files, language_models.VERSION, work
        )

    def _evaluation(self, task: str, codes: list[str]) -> dict[str, Any]:
        shots = self._recipe.shots.get(task, self._recipe.shots["mgsm"])
        new = self._recipe.max_new_tokens
        return {"task": task, "languages": codes, "shots": shots, "max_new_tokens": new}
