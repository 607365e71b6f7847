"""Study 3, layer swapping: its recipe, stages, results and report."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carrick.study.layer_swap.made_up import make_up
from carrick.study.layer_swap.models import Model, models
from carrick.study.layer_swap.numbers import results
from carrick.study.layer_swap.pages import report
from carrick.study.layer_swap.recipe import LayerSwap, Lora, Simultaneous, Toy, Training
from carrick.study.layer_swap.texts import FOLDERS
from carrick.study.layer_swap.training import BASE, CORPORA, base_recipe, training_recipe
from carrick.study.stage import Stage, Work

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RecipeType", "make_up", "quick", "report", "results", "stages"]

RecipeType = LayerSwap
_WORK = "carrick.study.layer_swap.work:"
# Tokens a second and billion parameters of one slow core, measured at width 96; inference takes a third.
_SPEED = 7.5e6


def quick(recipe: LayerSwap) -> LayerSwap:
    """Return the recipe of ``--quick``: four steps of a model of four layers, one row of a kind."""
    return recipe.model_copy(
        update={
            "toy": Toy(width=32, layers=4, heads=2, vocabulary=400, length=128, row_tokens=64, test_rows=6),
            "pretraining": Training(steps=4, batch_size=2, learning_rate=2e-3, schedule="cosine"),
            "sft": Training(steps=2, batch_size=2, learning_rate=1e-3),
            "lora": Lora(rank=2, alpha=2, learning_rate=3e-3),
            "simultaneous": Simultaneous(
                partitions=["C"], steps_per_switch=[1, 2], ablated="C", ablated_kinds=["full"]
            ),
            "rate_factors": [0.5],
            "seeds": [0],
            "draws": 20,
        }
    )


def stages(recipe: LayerSwap, data: Path) -> list[Stage]:
    """Return the stages: corpora, base, then for each model its training or merge, and its scores."""
    toy = recipe.toy
    files = {name: data / name for name in FOLDERS}
    shape = {**toy.model_dump(), "seed": 0}
    found = [
        Stage(CORPORA, _WORK + "prepare", shape, files=files, work=Work("all texts", seconds=12)),
        Stage(
            BASE,
            _WORK + "train",
            {"recipe": base_recipe(recipe)},
            needs=(CORPORA,),
            work=_training_work(recipe, recipe.pretraining, 1, "general texts, some German, some GSM8K"),
        ),
        _score(recipe, BASE),
    ]
    for model in models(recipe):
        found += [_make(recipe, model), _score(recipe, model.name)]
    return found


def _make(recipe: LayerSwap, model: Model) -> Stage:
    if model.trained:
        work = _training_work(recipe, recipe.sft, len(model.data), " + ".join(model.data))
        params: dict[str, Any] = {"recipe": training_recipe(model, recipe)}
        return Stage(model.name, _WORK + "train", params, needs=(CORPORA, BASE), work=work)
    shown = ("kind", "way", "experts", "partition", "side", "embeddings")
    params = {key: value for key, value in asdict(model).items() if key in shown}
    params["density"] = recipe.ties_density
    needs = (BASE, *model.experts)
    return Stage(model.name, _WORK + "merge", params, needs=needs, work=Work("experts", seconds=0.5))


def _score(recipe: LayerSwap, name: str) -> Stage:
    tokens = 5 * recipe.toy.test_rows * 80
    work = Work(
        "test texts",
        tokens=tokens,
        flops=2 * _parameters(recipe) * tokens,
        seconds=_seconds(recipe, tokens) / 3,
    )
    needs = tuple(dict.fromkeys((CORPORA, BASE, name)))
    return Stage(f"score-{name}", _WORK + "score", {"model": name}, needs=needs, work=work)


def _training_work(recipe: LayerSwap, settings: Training, sources: int, data: str) -> Work:
    steps = settings.steps * sources
    tokens = steps * settings.batch_size * recipe.toy.row_tokens
    seconds = 3 + _seconds(recipe, tokens)
    return Work(data, steps, tokens, 6.0 * _parameters(recipe) * tokens, seconds)


def _parameters(recipe: LayerSwap) -> int:
    toy = recipe.toy
    return toy.vocabulary * toy.width + 12 * toy.layers * toy.width**2


def _seconds(recipe: LayerSwap, tokens: int) -> float:
    return tokens * _parameters(recipe) / 1e3 / _SPEED
