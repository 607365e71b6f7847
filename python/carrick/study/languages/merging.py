"""Stages that merge adapters, choose λ and compare the languages' updates."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from typing import TYPE_CHECKING, Any

from carrick.study.languages.training import adapter_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from carrick.study.stage import Running

VERSION = 1
# Methods that leave updates of full rank: nothing of them is to be cut away.
_FULL_RANK = {"ties", "dare_ties", "dare_linear", "magnitude_prune"}
_WEIGHTS = "adapter_model.safetensors"


def merge(running: Running) -> dict[str, Any]:
    """Stage: merge the adapters of the stages it needs, in the order of its parameters."""
    params = running.params
    out = running.folder / "adapter"
    shutil.rmtree(out, ignore_errors=True)
    start = time.monotonic()
    merged(params["merge"], sources(running), out, base=running.files["base"], seed=params["seed"])
    return {"merge_seconds": time.monotonic() - start, "sha256": _checksum(out / _WEIGHTS)}


def sources(running: Running) -> list[Path]:
    """Adapters that a stage merges: those of its trainings and merges, in the order of its parameters."""
    return [adapter_of(running.needs[name].folder) for name in running.params["adapters"]]


def merged(
    how: Mapping[str, Any],
    adapters: Sequence[Path],
    out: Path,
    *,
    base: Path,
    seed: int,
    scale: float | None = None,
) -> None:
    """Merge adapters without loss: methods on ΔW keep the full rank of the weights."""
    from carrick.adapters import merge as merge_adapters  # noqa: PLC0415

    method = how["method"]
    parameters = {} if scale is None else {"lambda": scale}
    if how.get("normalize") is not None:
        parameters["normalize"] = how["normalize"]
    width = json.loads((base / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    merge_adapters(
        [str(adapter) for adapter in adapters],
        out,
        method=method,
        density=how.get("density"),
        weights=[1.0] * len(adapters),
        parameters=parameters,
        rank=width if method in _FULL_RANK else None,
        seed=seed if "dare" in method else None,
        threads=1,
    )


def choose(running: Running) -> dict[str, Any]:
    """Stage: merge with each λ, score the validation rows of every language, keep the best.

    The best has the highest mean of the languages' macro F1; of equals the smallest λ.
    """
    from carrick.study.languages.scoring import macro_scores, predictions  # noqa: PLC0415

    params = running.params
    scores, seconds = {}, 0.0
    for scale in params["merge"]["lambdas"]:
        running.say(f"λ = {scale:g}")
        trial = running.folder / f"lambda-{scale:g}"
        shutil.rmtree(trial, ignore_errors=True)
        start = time.monotonic()
        merged(
            params["merge"],
            sources(running),
            trial,
            base=running.files["base"],
            seed=params["seed"],
            scale=scale,
        )
        seconds += time.monotonic() - start
        logits = predictions(running, trial, params["languages"], "val")
        by_language = macro_scores(running, logits, "val")
        scores[f"{scale:g}"] = {**by_language, "overall": sum(by_language.values()) / len(by_language)}
    best = max(params["merge"]["lambdas"], key=lambda scale: (scores[f"{scale:g}"]["overall"], -scale))
    out = running.folder / "adapter"
    shutil.rmtree(out, ignore_errors=True)
    for scale in params["merge"]["lambdas"]:
        trial = running.folder / f"lambda-{scale:g}"
        trial.rename(out) if scale == best else shutil.rmtree(trial)
    return {
        "lambda": best,
        "validation": scores,
        "merge_seconds": seconds,
        "sha256": _checksum(out / _WEIGHTS),
    }


def compare(running: Running) -> dict[str, Any]:
    """Stage: cosine similarities of the languages' updates, of the whole model and by kind of module."""
    from carrick.similarity import similarity  # noqa: PLC0415

    found = similarity([str(path) for path in sources(running)], threads=1)
    return {
        "norms": list(found.whole.norms),
        "cosine": [list(row) for row in found.whole.cosine],
        "by_module": {part.name: [list(row) for row in part.cosine] for part in found.by_module},
    }


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
