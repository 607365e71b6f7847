"""Stages that train and score language models by recipes and tasks that their parameters hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick.study.inputs import placed

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study.stage import Running

VERSION = 1
MODEL = "model"
_KEPT = ("steps", "samples_seen", "tokens", "wall_seconds", "device_seconds", "cost", "trainable_parameters")


def train(running: Running) -> dict[str, Any]:
    """Stage: train by the recipe in the parameters, whose paths are as `placed` reads them."""
    from carrick.train import train as run_recipe  # noqa: PLC0415  (torch and others)

    out = running.folder / MODEL
    if not (out / "training.json").exists():  # killed between the end of training and the stage's record
        run_recipe(
            placed(running.params["recipe"], running), out, device=running.params["device"], progress=False
        )
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    kept = {key: record[key] for key in _KEPT if key in record}
    # Of a grid, what all of its points took: the record's own numbers are those of the point that was kept.
    return kept | {
        key: value for key, value in (record.get("search") or {}).items() if key in {"device_seconds", "cost"}
    }


def score(running: Running) -> dict[str, Any]:
    """Stage: score a model on tasks with `carrick.evaluate`.

    The parameters hold ``model`` (a stage, or None for the base itself), ``data`` (a folder, as `placed` reads it)
    and ``evaluations``: task, languages, shots and rows of each.
    """
    from carrick.evaluate import evaluate  # noqa: PLC0415

    params = running.params
    model, adapters = _loaded(running)
    scores: dict[str, Any] = {}
    for place, each in enumerate(params["evaluations"]):
        running.say(f"{each['task']}, {each['shots']} shots")
        report = evaluate(
            model,
            adapters,
            tasks=[each["task"]],
            data=placed(params["data"], running),
            languages=each["languages"],
            shots=each["shots"],
            limit=each.get("limit"),
            max_new_tokens=each.get("max_new_tokens"),
            device=params["device"],
            out=running.folder / f"evaluation-{place}",
            force=True,
        )
        name = f"{each['task']}/{each['shots']}"
        scores[name] = {
            one.language: {
                "value": one.scores[one.metric].value,
                "error": one.scores[one.metric].standard_error,
            }
            for one in report.results
        }
    return {"scores": scores}


def _loaded(running: Running) -> tuple[Path, list[Path]]:
    """Return the checkpoint to load, and the adapter on it if the model is one."""
    base, name = running.files["base"], running.params["model"]
    if name is None:
        return base, []
    folder = running.needs[name].folder / MODEL
    return (base, [folder]) if (folder / "adapter_config.json").exists() else (folder, [])
