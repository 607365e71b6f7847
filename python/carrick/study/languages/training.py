"""Stages that fit the head and train adapters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from carrick.study.languages.tweets import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carrick.study.stage import Running

VERSION = 1
HEAD_VERSION = 2  # heads of version 1 were written in the wrong order of memory
_LOOKED_AT = 200
ADAPTER = "adapter"


def fit(running: Running) -> dict[str, Any]:
    """Stage: fit the frozen head on the frozen features of one language's training rows."""
    from carrick.classifier.head import fit_head  # noqa: PLC0415
    from carrick.classifier.predict import predict  # noqa: PLC0415

    params = running.params
    texts, labels = load(running.needs[f"data-{params['language']}"].folder, "train")
    fit_head(
        running.files["base"],
        texts,
        labels,
        running.folder / "head",
        names=params["labels"],
        max_length=params["max_length"],
    )
    # The head is read back: what is on disk must be what was fitted.
    some = predict(
        running.files["base"], running.folder / "head", texts[:_LOOKED_AT], max_length=params["max_length"]
    )
    right = sum(int(a == b) for a, b in zip(some.argmax(axis=1), labels[:_LOOKED_AT], strict=True))
    return {"rows": len(texts), "train_accuracy": right / len(some)}


def train(running: Running) -> dict[str, Any]:
    """Stage: train an adapter on the rows of one language or of several.

    The record that training leaves becomes the stage's result: steps, wall time, device seconds, losses.
    """
    from carrick.train import train as run_training  # noqa: PLC0415

    out = running.folder / ADAPTER
    if not (out / "training.json").exists():  # killed between the end of training and the stage's record
        run_training(recipe(running), out, device="cpu", resume=True, progress=False)
    return summary(json.loads((out / "training.json").read_text(encoding="utf-8")))


def recipe(running: Running) -> dict[str, Any]:
    """Return the training recipe of a stage."""
    params = running.params
    training = params["training"]
    return {
        "base": str(running.files["base"]),
        "task": "classification",
        "head": str(running.needs["head"].folder / "head"),
        "data": {
            "train": [
                {
                    "file": str(running.needs[f"data-{code}"].folder / f"{params['rows']}.jsonl"),
                    "language": code,
                }
                for code in params["languages"]
            ],
            "columns": {"text": "text", "label": "label"},
        },
        "adapter": dict(params["adapter"]),
        "training": {
            "steps": params["steps"],
            "batch_size": training["batch_size"],
            "learning_rate": training["learning_rate"],
            "weight_decay": training["weight_decay"],
            "schedule": "constant_with_warmup" if training["warmup"] else "constant",
            "warmup": training["warmup"],
            "max_length": training["max_length"],
            "precision": training["precision"],
            "seed": params["seed"],
            "keep": "last",
            "snapshots": list(params.get("snapshots", [])),
        },
    }


def summary(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the report needs of a training record."""
    return {
        "steps": record["steps"],
        "samples_seen": record.get("samples_seen"),
        "wall_seconds": record["wall_seconds"],
        "device_seconds": record["device_seconds"],
        "device": record["device"],
        "resumed_from": record.get("resumed_from"),
        "trainable_parameters": record.get("trainable_parameters"),
        "losses": record["losses"],  # step, mean loss since the last entry
    }


def adapter_of(folder: Path, snapshot: int | None = None) -> Path:
    """Return the adapter that a training stage left, or the snapshot of it at a step."""
    out = folder / ADAPTER
    return out if snapshot is None else out / "snapshots" / f"step-{snapshot}"
