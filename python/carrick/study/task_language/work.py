"""What the stages of the study do, beside those it shares with the study of languages."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.study.inputs import placed
from carrick.study.languages.scoring import macro_scores, predictions
from carrick.study.languages.training import ADAPTER, adapter_of, summary

if TYPE_CHECKING:
    from carrick.study.stage import Running

VERSION = 1
LOGITS = "logits.npz"
# Methods that leave updates of full rank: nothing of them is to be cut away.
_FULL_RANK = {"ties", "dare_linear"}


def train(running: Running) -> dict[str, Any]:
    """Train an adapter, a mixture or an alignment by its recipe."""
    from carrick.train import train as run_recipe  # noqa: PLC0415  (torch and others)

    out = running.folder / ADAPTER
    if not (out / "training.json").exists():  # killed between the end of training and the stage's record
        run_recipe(placed(running.params["recipe"], running), out, device="cpu", progress=False)
    record = json.loads((out / "training.json").read_text(encoding="utf-8"))
    found = summary(record)
    found["method"] = record.get("method")
    return found


def merge(running: Running) -> dict[str, Any]:
    """Merge two adapters without training, and without loss."""
    from carrick.adapters import merge as merge_adapters  # noqa: PLC0415

    params = running.params
    out = running.folder / ADAPTER
    shutil.rmtree(out, ignore_errors=True)
    config = json.loads((running.files["base"] / "config.json").read_text(encoding="utf-8"))
    method = params["method"]
    merge_adapters(
        [str(adapter_of(running.needs[name].folder)) for name in params["adapters"]],
        out,
        method=method,
        density=params.get("density"),
        weights=params.get("weights"),
        rank=config["hidden_size"] if method in _FULL_RANK else None,
        seed=params["seed"] if "dare" in method else None,
        threads=1,
    )
    return {}


def score(running: Running) -> dict[str, Any]:
    """Classify the test rows, and of candidates the validation rows; the logits are kept."""
    params = running.params
    name = params["adapter"]
    adapter = None if name is None else adapter_of(running.needs[name].folder)
    found: dict[str, Any] = {}
    scores = {}
    for split in params["splits"]:
        logits = predictions(running, adapter, params["languages"], split)
        scores[split] = macro_scores(running, logits, split)
        found |= {f"{split}-{code}": values for code, values in logits.items()}
    np.savez(running.folder / LOGITS, **found)
    return {"macro_f1": scores}
