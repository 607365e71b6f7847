"""A merge of adapters from folders to a folder: headers, decompositions, jobs, one rename."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.adapters.merging.beside import add_beside, add_biases_of_b
from carrick.adapters.merging.decomposition import Decomposition, Kind, decompose
from carrick.adapters.merging.factor_space import merge_factors
from carrick.adapters.merging.knots import merge_in_basis
from carrick.adapters.merging.lineup import AdapterLineup, open_adapters
from carrick.adapters.merging.low_rank import merge_basis_to_rank, merge_updates_to_rank
from carrick.adapters.merging.on_device import merge_on_torch
from carrick.adapters.merging.outputs import Outputs
from carrick.adapters.merging.recipe import KNOTS, Recipe
from carrick.adapters.merging.record import adapter_record
from carrick.adapters.merging.sums import concatenate, truncate
from carrick.adapters.merging.swap import swap_modules
from carrick.adapters.write import adapter_config, write_config
from carrick.errors import PlanError
from carrick.partial import JOURNAL, PartialFolder
from carrick.plan.job import Plan, Shard
from carrick.record import NAME as RECORD
from carrick.record import write_record
from carrick.report import MergeReport

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.adapters.merging.engine import Engine
    from carrick.config import Document

WEIGHTS = "adapter_model.safetensors"


@dataclass
class AdapterReport(MergeReport):
    """What a merge of adapters did.

    Attributes
    ----------
    modules
        For each module that went through a decomposition: `path`, `rank`, `sigma` (all singular values),
        `min_gap` (the smallest relative gap between kept ones), `route`, `error` (relative Frobenius error of a
        truncation).
    config
        The content of adapter_config.json.
    state_dict
        The merged tensors by their PEFT keys, where no folder was written.
    """

    modules: list[dict[str, Any]] = field(default_factory=list, repr=False)
    config: dict[str, Any] = field(default_factory=dict, repr=False)
    state_dict: dict[str, Any] | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, without plans and tensors."""
        return {name: value for name, value in super().to_dict().items() if name != "state_dict"}


def merge_document(
    document: Document, out: Path, engine: Engine, *, force: bool = False, dry_run: bool = False
) -> AdapterReport:
    """Merge the adapters of a document.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done; nothing is left behind.
    """
    start = time.perf_counter()
    lineup = open_adapters(document, download=engine.download)
    recipe = Recipe(document, lineup)
    outputs = Outputs(document.output_dtype)
    report = AdapterReport(out, notes=[*document.notes, *lineup.notes])
    _refuse_contradictions(recipe, engine.device)
    if dry_run:
        for entry in lineup.entries:
            recipe.of(entry)
        _beside(lineup, recipe, engine)
        report.tensors, report.dry_run = 2 * len(lineup.entries), True
        return report
    with PartialFolder(out) as partial:
        engine = replace(engine, folder=partial.path)
        _add_jobs(lineup, recipe, outputs, engine)
        plan = _plan(lineup, recipe, outputs)
        report.config = _config(lineup, outputs)
        options = json.dumps({**engine.options, "fresh": True})
        told = json.loads(_core.execute(plan.to_json(), str(partial.path), options, engine.progress))
        _refuse_special(told)
        write_record(adapter_record(lineup, recipe, outputs, plan, told), partial.path)
        write_config(partial.path, report.config)
        partial.prepare_commit({WEIGHTS, f"{WEIGHTS}.part", JOURNAL, RECORD, "adapter_config.json"})
        _core.commit(str(partial.path), str(out), [WEIGHTS], force)
    report.take(told)
    report.modules = outputs.modules
    report.notes += outputs.notes
    report.seconds = time.perf_counter() - start
    return report


def _refuse_contradictions(recipe: Recipe, device: str) -> None:
    """Raise for options that do not go together: none is dropped without a word."""
    if recipe.adapter.space == "factors":
        if device != "cpu":
            raise PlanError("`space: factors` decomposes nothing: leave --device out")
        if recipe.truncates:
            raise PlanError("`space: factors` keeps the adapters' rank; leave `rank` and `energy` out")
    elif recipe.method == "layer_swap":
        if recipe.truncates:
            raise PlanError("`layer_swap` keeps the rank of every module; leave `rank` and `energy` out")
    elif not (recipe.truncates or recipe.is_sum or recipe.method.startswith(KNOTS) or device != "cpu"):
        raise PlanError(
            f"`{recipe.method}` of updates is not of low rank: give the rank of the result (--rank R, `rank`), or "
            "merge into the base (--base BASE --dense)"
        )


def _beside(lineup: AdapterLineup, recipe: Recipe, engine: Engine) -> Outputs:
    """Find what the adapters hold beside their modules, and what becomes of it."""
    beside = Outputs(recipe.document.output_dtype)
    add_biases_of_b(lineup, recipe, beside)
    add_beside(lineup, recipe, beside, download=engine.download)
    return beside


def _add_jobs(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, engine: Engine) -> None:
    """Add the jobs of all modules, and of what the adapters hold beside them."""
    options = recipe.adapter
    # Before decompositions, which take time: what is refused is refused at once.
    beside = _beside(lineup, recipe, engine)
    if engine.device != "cpu":
        merge_on_torch(lineup, recipe, outputs, engine)
    elif options.space == "factors":
        merge_factors(lineup, recipe, outputs)
    elif recipe.method == "layer_swap":
        swap_modules(lineup, recipe, outputs)
    elif recipe.method.startswith(KNOTS):
        if recipe.truncates:
            merge_basis_to_rank(lineup, recipe, outputs, _basis(lineup, recipe, engine), engine)
        else:
            merge_in_basis(lineup, recipe, outputs, _basis(lineup, recipe, engine))
    elif recipe.is_sum:
        if recipe.truncates:
            scales = [recipe.term_scales(entry) for entry in lineup.entries]
            found = decompose(lineup, "sum", scales, _request(recipe), engine)
            lineup.files.append(found.record)
            truncate(lineup, recipe, outputs, found)
        else:
            concatenate(lineup, recipe, outputs)
    else:
        merge_updates_to_rank(lineup, recipe, outputs, engine)
    outputs.jobs += beside.jobs
    outputs.notes += beside.notes
    outputs.modules_to_save, outputs.bias = beside.modules_to_save, beside.bias
    outputs.tokens, outputs.lora_bias = beside.tokens, beside.lora_bias
    outputs.base = beside.base


def _request(recipe: Recipe) -> dict[str, Any]:
    options = recipe.adapter
    cut = recipe.merge_options
    tolerance = {str(cut.get("rank_cut", "relative")): cut.get("rank_tolerance", 1e-6)}
    limits = {"rank": options.rank, "energy": options.energy} if recipe.is_sum else {}
    return {"tolerance": tolerance, "precision": recipe.precision, **limits}


def _basis(lineup: AdapterLineup, recipe: Recipe, engine: Engine) -> Decomposition:
    """Find the basis that the updates share; weights never enter it."""
    kind: Kind = "joint_columns" if recipe.merge_options["direction"] == "columns" else "joint_rows"
    scales = [[term.module.scale for term in entry.terms] for entry in lineup.entries]
    found = decompose(lineup, kind, scales, _request(recipe), engine)
    lineup.files.append(found.record)
    return found


def _plan(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> Plan:
    """Lay the tensors out in one file, larger elements first so that all are aligned."""
    from carrick.checkpoints.element_types import element_size  # noqa: PLC0415

    jobs = sorted(outputs.jobs, key=lambda job: -element_size(job.dtype))
    offset = 0
    for job in jobs:
        job.offset = offset
        offset += job.nbytes
    seed = recipe.document.seed or 0
    return Plan(lineup.files, [Shard(WEIGHTS, offset)], jobs, seed)


def _config(lineup: AdapterLineup, outputs: Outputs) -> dict[str, Any]:
    return adapter_config(
        lineup.adapters[0].config,
        outputs.ranks,
        alphas=outputs.alphas,
        modules_to_save=outputs.modules_to_save,
        trainable_token_indices=outputs.tokens,
        bias=outputs.bias,
        lora_bias=outputs.lora_bias,
    )


def _refuse_special(report: dict[str, Any]) -> None:
    """Refuse what no adapter may hold: factors are checked when they are read, other tensors and the result here."""
    for kind, what in (("nan", "NaN"), ("inf", "infinities")):
        if report[kind]:
            name, count = next(iter(report[kind].items()))
            raise PlanError(
                f"{name}: {count} {what} among the inputs, which adapters may not have; find the adapter with "
                "`carrick adapters inspect` and train it again"
            )
    if report["overflow"]:
        name, count = next(iter(report["overflow"].items()))
        raise PlanError(
            f"{name}: {count} values are too large for its element type; write another one, such as --dtype bfloat16"
        )
