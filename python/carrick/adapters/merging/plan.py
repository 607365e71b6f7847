"""What a merge of adapters would do: modules, ranks, bytes, memory; from headers alone, and nothing is written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.adapters.adapter import Adapter, as_adapter
from carrick.adapters.config import parse_config
from carrick.adapters.merging.forecast import Forecast
from carrick.adapters.merging.jobs import add_jobs, lay_out
from carrick.adapters.merging.on_device import settle
from carrick.adapters.merging.outputs import Outputs
from carrick.adapters.merging.place import check_place
from carrick.adapters.merging.run import config_of, open_recipe
from carrick.plan import planned_checkpoint
from carrick.plan.dtypes import dtype_bytes
from carrick.plan.estimate import estimate_of
from carrick.plan.job import ADAPTER_FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.config import Document
    from carrick.methods import Value

VERSION = 1


@dataclass(frozen=True)
class PlannedAdapter:
    """An adapter that is merged: its modules, largest rank, bytes by element type, and what holds for all modules."""

    ref: str
    revision: str | None
    modules: int
    rank: int
    dtypes: dict[str, int]
    parameters: dict[str, Value]


@dataclass(frozen=True)
class PlannedModule:
    """A module of the merged adapter.

    Attributes
    ----------
    path, kind
        Its name in the base; `linear`, `embedding` or `conv`.
    shape
        Rows and columns of ΔW = B·A.
    ranks
        Of each adapter, 0 where it has no such module.
    rank
        Of the result, 0 where the module is left out.
    weights
        Of each adapter; none where the method takes no weights.
    dtype
        Element type of the written factors.
    """

    path: str
    kind: str
    shape: tuple[int, int]
    ranks: tuple[int, ...]
    rank: int
    weights: tuple[float, ...]
    dtype: str


@dataclass(frozen=True)
class AdapterPlan:
    """What a merge of adapters would do.

    Attributes
    ----------
    document
        Name of the document, None for that of the output.
    method, variant, space, options
        What is merged and how: the values that are the same for all modules.
    rank, energy
        What the result is cut down to.
    seed
        Key of random masks.
    adapters, modules
        What goes in, and what comes out.
    beside
        Names of what is written beside the modules: biases, modules saved whole, tokens.
    is_exact
        Whether ranks and bytes are as they stand; where factors are decomposed they are what there can be at the
        most.
    bytes_read, bytes_written, scratch_bytes
        What all stages read; the tensors of the result; what lies in the partial folder in between.
    peak_bytes
        Memory beyond the interpreter's, without the decompositions of factors where `decomposes` is true: how much
        these take, within what is allowed, shows when they run.
    notes
        What a user should know.
    """

    document: str | None
    method: str
    variant: str | None
    space: str
    options: dict[str, Value]
    rank: int | None
    energy: float | None
    seed: int
    adapters: list[PlannedAdapter]
    modules: list[PlannedModule]
    beside: list[str]
    is_exact: bool
    tensors: int
    bytes_read: int
    bytes_written: int
    scratch_bytes: int
    peak_bytes: int
    decomposes: bool
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan as plain objects."""
        return {"format": ADAPTER_FORMAT, "version": VERSION, **asdict(self)}

    def to_json(self) -> str:
        """Return the plan as compact JSON."""
        return json.dumps(self.as_dict(), ensure_ascii=False, separators=(",", ":"))


def plan_document(
    document: Document, engine: Engine, made: Mapping[str, Adapter], out: Path | None = None
) -> tuple[AdapterPlan, Adapter | None]:
    """Plan a merge of adapters; `made` are the results of other documents by name, as they will be.

    With `out`, the folder that all documents end in, what this one reads is not to be replaced by it.

    Returns
    -------
    The plan; and of a document with a name the adapter that it makes, of which there are no bytes yet.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done.
    """
    lineup, recipe = open_recipe(document, engine, made)
    if out is not None:
        check_place(out, document, lineup, made)
    if engine.device != "cpu":
        settle(recipe, engine)  # raises for what no device does
    # What is forecast is the same wherever it is made; on a device it would be made at once.
    outputs, forecast = Outputs(document.output_dtype), Forecast(replace(engine, device="cpu"))
    add_jobs(lineup, recipe, outputs, forecast)
    plan = lay_out(lineup, recipe, outputs)
    cost = estimate_of(plan, engine.options)
    values = [] if recipe.method == "layer_swap" else [recipe.of(entry) for entry in lineup.entries]
    modules = [
        _module(entry, lineup, outputs, tuple(values[place].weights) if values else ())
        for place, entry in enumerate(lineup.entries)
    ]
    own = {name for entry in lineup.entries for name in entry.names}
    found = AdapterPlan(
        document=document.name,
        method=recipe.method,
        variant=document.variant,
        space=recipe.adapter.space,
        options=recipe.merge_options | _same_for_all([one.options for one in values]),
        rank=recipe.adapter.rank,
        energy=recipe.adapter.energy,
        seed=plan.seed,
        adapters=[
            _adapter(adapter, _same_for_all([one.parameters[index] for one in values]))
            for index, adapter in enumerate(lineup.adapters)
        ],
        modules=modules,
        beside=[job.name for job in plan.jobs if job.name not in own],
        is_exact=forecast.is_exact,
        tensors=len(plan.jobs),
        bytes_read=cost.bytes_read + forecast.bytes_read,
        bytes_written=cost.bytes_written,
        scratch_bytes=forecast.scratch_bytes,
        peak_bytes=max(cost.peak_bytes, forecast.peak_bytes),
        decomposes=forecast.decomposes,
        notes=list(dict.fromkeys([*document.notes, *lineup.notes, *outputs.notes])),
    )
    name = document.name
    if name is None:
        return found, None
    config = parse_config(config_of(lineup, outputs), name)
    return found, as_adapter(planned_checkpoint(plan, Path(name), name), config, Path(name))


def _same_for_all(values: Sequence[Mapping[str, Value]]) -> dict[str, Value]:
    first = values[0] if values else {}
    return {name: value for name, value in first.items() if all(each.get(name) == value for each in values)}


def _adapter(adapter: Adapter, parameters: dict[str, Value]) -> PlannedAdapter:
    rank = max((module.rank for module in adapter.modules.values()), default=0)
    sizes = dtype_bytes(adapter.checkpoint)
    return PlannedAdapter(adapter.ref, adapter.revision, len(adapter.modules), rank, sizes, parameters)


def _module(
    entry: Entry, lineup: AdapterLineup, outputs: Outputs, weights: tuple[float, ...]
) -> PlannedModule:
    held = {term.index: term.module.rank for term in entry.terms}
    return PlannedModule(
        path=entry.path,
        kind=entry.kind,
        shape=(entry.rows, entry.columns),
        ranks=tuple(held.get(index, 0) for index in range(len(lineup.adapters))),
        rank=outputs.ranks.get(entry.path, 0),
        weights=weights,
        dtype=outputs.type_of(entry.dtype),
    )
