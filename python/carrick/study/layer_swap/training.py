"""Training recipes of the study's models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrick.study.layer_swap.models import Model
    from carrick.study.layer_swap.recipe import LayerSwap, Training

BASE, CORPORA = "base", "corpora"
# "Both multi-layer perceptron and multi-head attention parameters" (XLT §3.4).
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Corpora by side of a simultaneous training.
_SIDES = {"task": "math", "language": "german"}


def base_recipe(recipe: LayerSwap) -> dict[str, Any]:
    """Return the pretraining of the base, from random weights."""
    training = _training(recipe, recipe.pretraining, recipe.pretraining.learning_rate, seed=0)
    training["save_every"] = 250
    return {
        "base": f"@{CORPORA}/start",
        "task": "causal",
        "data": {"train": _source("base", None), "columns": {"text": "text"}},
        "training": training,
    }


def training_recipe(model: Model, recipe: LayerSwap) -> dict[str, Any]:
    """Return how a model of the study is trained, as `carrick.train` takes it; paths as `placed` reads them.

    A model trained on two corpora takes as many rows of each as an expert does, and twice the steps.
    """
    sft = recipe.sft
    rows = sft.steps * sft.batch_size
    rate = sft.learning_rate if model.kind == "full" else recipe.lora.learning_rate
    training = _training(recipe, sft, rate * model.rate_factor, seed=model.seed)
    training["steps"] = sft.steps * len(model.data)
    content: dict[str, Any] = {"base": f"@{BASE}/model", "task": "causal", "training": training}
    if model.way == "simultaneous":
        content["method"] = "simultaneous"
        content["sources"] = {
            side: {"train": _source(corpus, rows), "columns": {"text": "text"}}
            for side, corpus in _SIDES.items()
        }
        content["steps_per_switch"] = model.steps_per_switch
    else:
        sources = [_source(corpus, rows) for corpus in model.data]
        content["data"] = {"train": sources, "columns": {"text": "text"}}
    if model.partition is not None:
        content["partition"] = {"name": model.partition}
        if model.side is not None:
            content["partition"]["side"] = model.side
    if model.kind == "lora":
        content["adapter"] = {
            "rank": recipe.lora.rank,
            "alpha": float(recipe.lora.alpha),
            "rslora": True,
            "targets": list(LINEAR),
        }
    return content


def _source(corpus: str, rows: int | None) -> dict[str, Any]:
    source: dict[str, Any] = {"file": f"@{CORPORA}/{corpus}.jsonl"}
    return source if rows is None else {**source, "rows": rows}


def _training(recipe: LayerSwap, settings: Training, rate: float, seed: int) -> dict[str, Any]:
    return {
        "steps": settings.steps,
        "batch_size": settings.batch_size,
        "learning_rate": rate,
        "weight_decay": settings.weight_decay,
        "schedule": settings.schedule,
        "warmup": settings.warmup,
        "clip_norm": settings.clip_norm,
        "max_length": recipe.toy.row_tokens,
        "seed": seed,
        "keep": "last",
        "save_every": "never",
    }
