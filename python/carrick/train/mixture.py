"""The method `mixture`: learned coefficients of a sum of frozen adapters, written as one adapter (CAT)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError
from carrick.merge import merge
from carrick.train.base import empty_model, load_model
from carrick.train.coefficients import mix
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
)

if TYPE_CHECKING:
    from collections.abc import Mapping


def check(job: Job) -> None:
    """Refuse what cannot be mixed, before anything is loaded.

    Raises
    ------
    ConfigError, FormatError, PlanError
        Less than two adapters, one that is missing, of another base, or more than LoRA.
    """
    adapters = _adapters(job)
    if len(adapters) < 2:
        raise ConfigError(f"`adapters` names {len(adapters)}; a mixture is of two or more")
    model = empty_model(job.base, job.recipe.task)
    for each in adapters:
        check_base(model, each)


def run(job: Job) -> Outcome:
    """Train the coefficients and write the mixture to the job's folder."""
    recipe = job.recipe
    adapters = _adapters(job)
    names = [each.name for each in adapters]
    folders = {each.name: each.folder for each in adapters}
    base = load_model(job.base, recipe.task, recipe.training, trains_all=False)
    model: Any = load_adapters(base, adapters)
    activate(model, names, trained=[])
    coefficients = mix(model, names, recipe.coefficients)
    fitted = fit(
        with_head(model, job), job, save=lambda _, folder: export(coefficients.table(), folders, folder)
    )
    table = coefficients.table()
    export(table, folders, job.folder)
    details = {"adapters": account(adapters), "kind": recipe.coefficients, "coefficients": table}
    return Outcome(fitted, details)


def export(table: Mapping[str, Mapping[str, float]], folders: Mapping[str, Path], folder: Path) -> None:
    """Write the mixture as one adapter of rank Σ rᵢ, whose ΔW is the trained one's.

    Parameters
    ----------
    table
        Module to adapter to coefficient.
    folders
        Where each adapter lies.
    folder
        Where the mixture goes.
    """
    models = []
    for name, place in folders.items():
        mine = {f"{path}.weight": row[name] for path, row in table.items() if name in row}
        # A filter is part of a name, and the first that fits counts: a longer name before one inside of it.
        weights = [{"filter": path, "value": mine[path]} for path in sorted(mine, key=len, reverse=True)]
        weights.append({"filter": "*", "value": 0.0})  # for modules that it does not have
        models.append({"model": str(place), "parameters": {"weight": weights}})
    # What was trained was computed in float32, whatever the adapters are stored in.
    config = {"merge_method": "cat", "models": models, "dtype": "float32"}
    with tempfile.TemporaryDirectory(dir=made(folder)) as scratch:
        merge(config, Path(scratch, "merged"))
        move_files(Path(scratch, "merged"), folder)


def _adapters(job: Job) -> list[AdapterOnDisk]:
    return find_adapters(job.recipe.adapters or [], "adapter")
