"""Stages that train, merge and score language models."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from carrick.study.languages.training import ADAPTER, summary

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carrick.study.stage import Running

VERSION = 1
# Methods whose result has full rank. It is cut down to the sum of the ranks that the merged adapters really have
# (of adapters that are merges themselves: more than one training's), and the error is in the merge's record.
_FULL_RANK = {"ties", "dare_ties"}


def train(running: Running) -> dict[str, Any]:
    """Stage: train a LoRA adapter on the rows of the languages it needs; the best on validation is kept."""
    from carrick.train import train as run_training  # noqa: PLC0415

    out = running.folder / ADAPTER
    if not (out / "training.json").exists():  # killed between the end of training and the stage's record
        run_training(_recipe(running), out, device=running.params["device"], resume=True, progress=False)
    return summary(json.loads((out / "training.json").read_text(encoding="utf-8")))


def _recipe(running: Running) -> dict[str, Any]:
    params = running.params

    def sources(split: str) -> list[dict[str, Any]]:
        return [
            {"file": str(running.needs[name].folder / f"{split}.jsonl"), "language": code}
            for code, name in params["rows"]
        ]

    return {
        "base": str(running.files["base"]),
        "task": "causal",
        "data": {
            "train": sources("train"),
            "validation": sources("validation"),
            "columns": {"prompt": "prompt", "completion": "completion"},
            "chat": params["chat"],
        },
        "adapter": dict(params["adapter"]),
        "training": {**params["training"], "seed": params["seed"], "keep": "best", "evaluate_every": "epoch"},
        "cost": {"price": params["price"], "currency": params["currency"]},
    }


def merge(running: Running) -> dict[str, Any]:
    """Stage: merge adapters with the weights of the parameters."""
    from carrick.adapters import merge as merge_adapters  # noqa: PLC0415

    params = running.params
    out = running.folder / ADAPTER
    shutil.rmtree(out, ignore_errors=True)
    method = params["method"]
    start = time.monotonic()
    adapters = [running.needs[name].folder / ADAPTER for name in params["adapters"]]
    merge_adapters(
        [str(adapter) for adapter in adapters],
        out,
        method=method,
        density=params["density"],
        weights=params["weights"],
        rank=sum(map(rank_of, adapters)) if method in _FULL_RANK else None,
        seed=params["seed"] if "dare" in method else None,
    )
    return {"merge_seconds": time.monotonic() - start}


def rank_of(adapter: Path) -> int:
    """Return the largest rank that an adapter has in any module."""
    config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    return max(int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values()), 0)


def score(running: Running) -> dict[str, Any]:
    """Stage: score a task in some languages with `carrick.evaluate`."""
    from carrick.evaluate import evaluate  # noqa: PLC0415

    params = running.params
    data = running.folder / "data"
    _lay_out(running, data / params["folder"], params["rows"])
    report = evaluate(
        running.files["base"],
        [running.needs[params["adapter"]].folder / ADAPTER],
        tasks=[params["task"]],
        data=data,
        languages=[code for code, _ in params["rows"]],
        limit=params["limit"],
        device=params["device"],
        chat=params["chat"],
        bertscore=running.files.get("bertscore"),
        out=running.folder / "evaluation",
        force=True,
    )
    shutil.rmtree(data)
    return {
        "seconds": report.seconds,
        "scores": {
            each.language: {name: [value.value, value.standard_error] for name, value in each.scores.items()}
            for each in report.results
        },
    }


def _lay_out(running: Running, folder: Path, rows: Sequence[Sequence[str]]) -> None:
    """Put the test rows of the languages where the evaluation looks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for code, name in rows:
        shutil.copyfile(running.needs[name].folder / "test.jsonl", folder / f"{code}.jsonl")
