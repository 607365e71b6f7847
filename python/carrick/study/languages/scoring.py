"""Stages that classify the test rows; logits are kept, so that scores and bootstraps need no second pass."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.study.languages.training import adapter_of
from carrick.study.languages.tweets import load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from carrick.study.stage import Running

VERSION = 1
LOGITS = "logits.npz"


def score(running: Running) -> dict[str, Any]:
    """Stage: logits of the test rows of some languages under one adapter, or none."""
    params = running.params
    name = params.get("adapter")
    twin = params.get("twin")
    if name is not None and twin is not None and _same(running, name, twin["merge"]):
        shutil.copyfile(running.needs[twin["score"]].folder / LOGITS, running.folder / LOGITS)
        return {**running.needs[twin["score"]].result, "same_adapter_as": twin["merge"]}
    adapter = None if name is None else adapter_of(running.needs[name].folder, params.get("snapshot"))
    found = predictions(running, adapter, params["languages"], "test")
    np.savez(running.folder / LOGITS, **found)  # type: ignore[arg-type]
    return {"macro_f1": macro_scores(running, found, "test")}


def _same(running: Running, one: str, other: str) -> bool:
    """Whether two merged adapters are the same bytes, so that what they answer is known already."""
    return bool(running.needs[one].result["sha256"] == running.needs[other].result["sha256"])


def predictions(
    running: Running, adapter: Path | None, languages: Sequence[str], split: str
) -> dict[str, NDArray[np.float32]]:
    """Return the logits of each language's rows, float32 [rows, classes].

    The adapter is folded into the base first: a merged one of full rank would double the work of every layer.
    """
    from carrick.classifier.predict import predict  # noqa: PLC0415

    params = running.params
    texts = {code: load(running.needs[f"data-{code}"].folder, split)[0] for code in languages}
    with _folded(running.files["base"], adapter, running.folder) as base:
        logits = predict(
            base,
            running.needs["head"].folder / "head",
            [text for code in languages for text in texts[code]],
            max_length=params["max_length"],
            batch_size=params["batch_size"],
            precision=params["precision"],
        )
    ends = np.cumsum([len(texts[code]) for code in languages])
    return dict(zip(languages, np.split(logits, ends[:-1]), strict=True))


def macro_scores(running: Running, logits: Mapping[str, NDArray[np.float32]], split: str) -> dict[str, float]:
    """Return the macro F1 of each language."""
    from carrick.evaluate.metrics.classification import macro_f1  # noqa: PLC0415

    scores = {}
    for code, values in logits.items():
        labels = np.array(load(running.needs[f"data-{code}"].folder, split)[1])
        scores[code] = macro_f1(labels, values.argmax(axis=1), values.shape[1])
    return scores


@contextmanager
def _folded(base: Path, adapter: Path | None, folder: Path) -> Iterator[Path]:
    """Yield a checkpoint with the adapter in it, which is removed afterwards; without adapter the base."""
    from carrick.adapters import apply  # noqa: PLC0415

    if adapter is None:
        yield base
        return
    checkpoint = folder / "folded"
    shutil.rmtree(checkpoint, ignore_errors=True)
    apply(base, [{"path": str(adapter), "weight": 1.0}], checkpoint, threads=1)
    try:
        yield checkpoint
    finally:
        shutil.rmtree(checkpoint)
