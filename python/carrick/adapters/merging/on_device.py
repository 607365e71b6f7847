"""Merges that decompose, on a torch device: the same methods, batched over modules, written as factors to be cast."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from carrick.adapters.factors_file import FactorsFile
from carrick.errors import ConfigError, PlanError
from carrick.knots.modules import KNOTS
from carrick.knots.uniqueness import not_unique
from carrick.plan.description import Place
from carrick.plan.job import CAST, Input

if TYPE_CHECKING:
    import torch

    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe
    from carrick.torch import Options

TORCH = "torch:"
"""Before a device's name: the torch path there, on the CPU too, where the core is the usual one."""


def merge_on_torch(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, engine: Engine) -> None:
    """Add what a merge on `engine.device` makes of every module.

    Raises
    ------
    ConfigError
        torch is not installed, there is no such device, or nothing is decomposed.
    PlanError
        Options that differ between modules, other than weights.
    """
    device, options = settle(recipe, engine)
    from carrick.torch import Place as Stored  # noqa: PLC0415
    from carrick.torch import merge_on_device, stored_module  # noqa: PLC0415  (torch is an extra)

    adapters = lineup.adapters
    modules = []
    for entry in lineup.entries:
        places: list[Any] = [None] * len(adapters)
        for term in entry.terms:
            module, file_of = term.module, adapters[term.index].checkpoint.file_of
            places[term.index] = Stored(
                (file_of(module.a_name), module.a_name), (file_of(module.b_name), module.b_name), module.scale
            )
        weights = tuple(recipe.of(entry).weights)
        a_name, b_name = entry.names
        modules.append(stored_module(entry.path, places, weights=weights, a_name=a_name, b_name=b_name))
    entries = {entry.path: entry for entry in lineup.entries}
    file = len(lineup.files)
    with FactorsFile(engine.folder / "device.factors", 2 * len(modules)) as factors:
        for path, a, b, found in merge_on_device(modules, options, device):
            places = [factors.add(tensor.cpu().numpy()) for tensor in (a, b)]
            _add(outputs, entries[path], len(a), [Place(file, *place) for place in places])
            outputs.modules.append({"path": path, **asdict(found)})
    lineup.files.append(factors.record)
    order = {path: place for place, path in enumerate(entries)}  # batches go by shape
    outputs.modules.sort(key=lambda module: order[module["path"]])
    if recipe.method.startswith(KNOTS):
        gaps = ((module["path"], module["min_gap"]) for module in outputs.modules)
        outputs.notes += not_unique(recipe.method, gaps)


def settle(recipe: Recipe, engine: Engine) -> tuple[torch.device, Options]:
    """Return where a merge is made and its options there, from headers alone.

    Raises
    ------
    ConfigError
        torch is not installed, there is no such device, or nothing is decomposed.
    PlanError
        Options that differ between modules, other than weights.
    """
    try:
        from carrick.torch.device import find_device  # noqa: PLC0415  (torch is an extra)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--device {engine.device} needs torch ({error}): pip install 'carrick[torch]'"
        ) from error
    _refuse_others(recipe)
    device = find_device(engine.device.removeprefix(TORCH), also=(f"{TORCH}cpu",))
    return device, _options(recipe, None if device.type == "cuda" else engine.memory)


def _refuse_others(recipe: Recipe) -> None:
    if recipe.is_sum and not recipe.truncates:
        raise ConfigError(
            f"`{recipe.method}` without a rank has nothing to decompose: --device is for knots_ methods, and for "
            "others with a rank or an energy; leave it out"
        )


def _options(recipe: Recipe, memory: int | None) -> Options:
    from carrick.torch import read_options  # noqa: PLC0415
    from carrick.torch.parameters import options_of  # noqa: PLC0415

    found = [recipe.of(entry) for entry in recipe.lineup.entries]
    first = found[0]
    if any(values.options != first.options for values in found):
        raise PlanError("--device takes options that are the same for all modules; leave it out")
    given = options_of({**first.options, **recipe.merge_options})
    densities = {tuple(p.get("density") for p in values.parameters) for values in found}
    if len(densities) > 1:
        raise PlanError("--device takes one density for each adapter; leave it out")
    if None not in next(iter(densities)):
        given["density"] = next(iter(densities))
    if "dare" in recipe.method:
        given["seed"] = recipe.document.seed or 0
    return read_options(
        "svd" if recipe.is_sum else recipe.method,
        len(recipe.lineup.adapters),
        rank=recipe.adapter.rank,
        energy=recipe.adapter.energy,
        precision=recipe.precision,
        memory=memory,
        **given,
    )


def _add(outputs: Outputs, entry: Entry, rank: int, places: list[Place]) -> None:
    outputs.add_rank(entry, rank)
    outputs.add_a(entry, rank, CAST, {}, [Input(places[0])])
    outputs.add_b(entry, rank, CAST, {}, [Input(places[1])])
