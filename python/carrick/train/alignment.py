"""The method `alignment`: task and language adapter trained together after their merge (MLM §3.3).

Both stand in the model, each scaled by its λ, and both train, for one epoch on a mixed sample. What comes out is
written as one adapter of rank Σ rᵢ by `carrick.adapters.merge` with `cat` and the same λ, which is exact; adding A
and B apart, the other reading of "parameter-space interpolation", would have cross terms that were never trained.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.adapters.merge import merge
from carrick.errors import ConfigError
from carrick.train.base import empty_model, load_model
from carrick.train.fine_tune import with_head
from carrick.train.fitting import fit
from carrick.train.job import Job, Outcome
from carrick.train.live_adapters import (
    AdapterOnDisk,
    account,
    activate,
    check_base,
    find_adapters,
    load_adapters,
    made,
    move_files,
    read_weights,
    save_adapter,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

PARTS = "parts"
"""Folder in the result that holds each aligned adapter by itself."""


def check(job: Job) -> None:
    """Refuse what cannot be aligned, before anything is loaded.

    Raises
    ------
    ConfigError, FormatError, PlanError
        An adapter that is missing, of another base, or more than LoRA; weights that are not one for each.
    """
    adapters = _adapters(job)
    _weights(job, adapters)
    model = empty_model(job.base, job.recipe.task)
    for each in adapters:
        check_base(model, each)


def run(job: Job) -> Outcome:
    """Train the adapters together; write them as one, and each by itself under `parts`."""
    recipe = job.recipe
    adapters = _adapters(job)
    weights = _weights(job, adapters)
    base = load_model(job.base, recipe.task, recipe.training, trains_all=False)
    model: Any = load_adapters(base, adapters)
    activate(model, list(weights), trained=list(weights), weights=weights)

    def save(live: nn.Module, folder: Path) -> None:  # noqa: ARG001  (the adapters are saved without a head)
        export(model, weights, folder)

    fitted = fit(with_head(model, job), job, save=save)
    merged = export(model, weights, job.folder)
    return Outcome(fitted, {"adapters": account(adapters), "merge": merged})


def export(model: Any, weights: Mapping[str, float], folder: Path) -> dict[str, Any]:
    """Write the aligned adapters together as one, and each by itself.

    Parameters
    ----------
    model
        The ``peft.PeftModel``.
    weights
        λ of each of its adapters by name; in the factors of the merged adapter, not in those of the parts.
    folder
        Of the merged adapter; the parts go to sub-folders of `parts`.

    Returns
    -------
    dict
        For the record: the method and weights of the merge, and the largest rank of a module.
    """
    for name in weights:
        save_adapter(model, name, folder / PARTS / name)
    folders = [folder / PARTS / name for name in weights]
    with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
        out = Path(scratch, "merged")
        report = merge(folders, out, method="cat", weights=list(weights.values()), dtype="float32")
        move_files(out, folder)
    rank = max(report.config["r"], *report.config["rank_pattern"].values(), 0)
    return {"method": "cat", "weights": dict(weights), "rank": rank}


def _adapters(job: Job) -> list[AdapterOnDisk]:
    recipe = job.recipe
    if recipe.language_adapter is None:
        raise ConfigError("the method `alignment` needs `language_adapter`")
    return [*find_adapters(recipe.task_adapters, "ta"), *find_adapters([recipe.language_adapter], "la")]


def _weights(job: Job, adapters: list[AdapterOnDisk]) -> dict[str, float]:
    what = "the task adapters in their order, then the language adapter"
    values = read_weights(job.recipe.weights, len(adapters), what)
    return {each.name: value for each, value in zip(adapters, values, strict=True)}
