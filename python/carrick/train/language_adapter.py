"""The method `language_adapter`: a new adapter trained beside frozen task adapters that take part (MLM §3.2).

Base and task adapters are frozen, ΔW is the sum of theirs and the new one's, and only the new one trains. The
result is the language adapter alone; it is merged with its task adapters afterwards, by weights to choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.adapters.adapter import read_adapter
from carrick.errors import ConfigError
from carrick.train.adapter import lora_config
from carrick.train.base import check_targets, empty_model, load_model
from carrick.train.fine_tune import with_head
from carrick.train.fitting import fit
from carrick.train.initialisation import initialise
from carrick.train.job import Job, Outcome
from carrick.train.live_adapters import (
    AdapterOnDisk,
    account,
    activate,
    check_base,
    find_adapters,
    load_adapters,
    save_adapter,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.train.recipe import Adapter

NAME = "la"


def check(job: Job) -> None:
    """Refuse what cannot be trained, before anything is loaded.

    Raises
    ------
    ConfigError, FormatError, PlanError
        A target that the base has not, a task adapter that is missing, of another base, or more than LoRA, or no
        room for an orthogonal initialisation.
    """
    adapter = _adapter(job)
    model = empty_model(job.base, job.recipe.task)
    targets = check_targets(model, adapter, job.base)
    task_adapters = find_adapters(job.recipe.task_adapters, "ta")
    for each in task_adapters:
        check_base(model, each)
    if job.recipe.initialisation == "orthogonal":
        check_room(targets, adapter.rank, task_adapters)


def run(job: Job) -> Outcome:
    """Train the language adapter and write it to the job's folder."""
    recipe = job.recipe
    task_adapters = find_adapters(recipe.task_adapters, "ta")
    base = load_model(job.base, recipe.task, recipe.training, trains_all=False)
    config = lora_config(_adapter(job), recipe.task, base)  # before other adapters rename its modules
    model: Any = load_adapters(base, task_adapters)
    model.add_adapter(NAME, config)
    names = [each.name for each in task_adapters]
    seed = recipe.training.seed
    begun = initialise(model, NAME, recipe.initialisation, names, sigma=recipe.sigma, seed=seed)
    activate(model, [*names, NAME], trained=[NAME])
    fitted = fit(with_head(model, job), job, save=lambda _, folder: save_adapter(model, NAME, folder))
    save_adapter(model, NAME, job.folder)
    return Outcome(fitted, {"task_adapters": account(task_adapters), "initialisation": begun})


def check_room(targets: Sequence[str], rank: int, task_adapters: Sequence[AdapterOnDisk]) -> None:
    """Refuse an orthogonal initialisation where task adapters leave too few input features.

    Raises
    ------
    ConfigError
        A module of in_features < rank + Σ rank of the task adapters.
    """
    modules = [read_adapter(str(each.folder)).modules for each in task_adapters]
    for path in targets:
        theirs = [found[path] for found in modules if path in found]
        taken = sum(module.rank for module in theirs)
        if theirs and rank + taken > theirs[0].in_features:
            raise ConfigError(
                f"{path}: the task adapters take {taken} of {theirs[0].in_features} input features, which leaves no "
                f"room for {rank} orthogonal rows; lower `adapter.rank` or use `initialisation: zero`"
            )


def _adapter(job: Job) -> Adapter:
    if job.recipe.adapter is None:
        raise ConfigError("the method `language_adapter` needs `adapter`")
    return job.recipe.adapter
