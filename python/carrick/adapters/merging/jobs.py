"""From the recipe of a merge to its jobs: which way each method goes, and the file that the results make up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.adapters.folder import WEIGHTS
from carrick.adapters.merging.beside import add_beside, add_biases_of_b
from carrick.adapters.merging.factor_space import merge_factors
from carrick.adapters.merging.knots import merge_in_basis
from carrick.adapters.merging.low_rank import merge_basis_to_rank, merge_updates_to_rank
from carrick.adapters.merging.on_device import merge_on_torch
from carrick.adapters.merging.outputs import Outputs
from carrick.adapters.merging.sums import concatenate, truncate
from carrick.adapters.merging.swap import givers, swap_modules
from carrick.adapters.merging.task import task_notes
from carrick.adapters.merging.tying import settle_tying
from carrick.checkpoints.element_types import element_size
from carrick.errors import PlanError
from carrick.knots.modules import KNOTS
from carrick.knots.uniqueness import not_unique
from carrick.plan.job import Plan, Shard

if TYPE_CHECKING:
    from carrick.adapters.merging.decomposition import Decomposition, Kind
    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.adapters.merging.recipe import Recipe
    from carrick.adapters.merging.stages import Stages


def refuse_contradictions(recipe: Recipe, device: str) -> None:
    """Raise for options that do not go together: none is dropped without a word."""
    if recipe.adapter.space == "factors":
        if device != "cpu":
            raise PlanError("`space: factors` decomposes nothing: leave --device out")
        if recipe.truncates:
            raise PlanError("`space: factors` keeps the adapters' rank; leave `rank` and `energy` out")
    elif recipe.method == "layer_swap":
        if device != "cpu":
            raise PlanError("`layer_swap` decomposes nothing: leave --device out")
        if recipe.truncates:
            raise PlanError("`layer_swap` keeps the rank of every module; leave `rank` and `energy` out")
    elif not (recipe.truncates or recipe.is_sum or recipe.method.startswith(KNOTS)):
        raise PlanError(
            f"`{recipe.method}` of updates is not of low rank: give the rank of the result (--rank R, `rank`), or "
            "merge into the base (--base BASE --dense; in a YAML, list each adapter on it, as BASE+ADAPTER)"
        )


def _beside(lineup: AdapterLineup, recipe: Recipe, engine: Engine) -> Outputs:
    """Find what the adapters hold beside their modules, and what becomes of it."""
    beside = Outputs(recipe.document.output_dtype)
    swaps = recipe.method == "layer_swap" and recipe.adapter.space == "delta"
    written = givers(lineup, recipe) if swaps else [entry.path for entry in lineup.entries]
    add_biases_of_b(lineup, recipe, beside)
    add_beside(lineup, recipe, beside, set(written), download=engine.download)
    beside.notes += task_notes(lineup.adapters, beside.task)
    return beside


def add_jobs(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, stages: Stages) -> None:
    """Add the jobs of all modules, and of what the adapters hold beside them.

    Raises
    ------
    ConfigError, PlanError
        What was asked for cannot be done.
    """
    options = recipe.adapter
    # Before decompositions, which take time: what is refused is refused at once.
    beside = _beside(lineup, recipe, stages.engine)
    if stages.engine.device != "cpu":
        merge_on_torch(lineup, recipe, outputs, stages.engine)
    elif options.space == "factors":
        merge_factors(lineup, recipe, outputs)
    elif recipe.method == "layer_swap":
        swap_modules(lineup, recipe, outputs)
    elif recipe.method.startswith(KNOTS):
        basis = _basis(lineup, recipe, outputs, stages)
        if recipe.truncates:
            merge_basis_to_rank(lineup, recipe, outputs, basis, stages)
        else:
            merge_in_basis(lineup, recipe, outputs, basis)
    elif recipe.is_sum:
        if recipe.truncates:
            scales = [recipe.term_scales(entry) for entry in lineup.entries]
            found = stages.decompose(lineup, "sum", scales, _request(recipe))
            lineup.files.append(found.record)
            truncate(lineup, recipe, outputs, found)
        else:
            concatenate(lineup, recipe, outputs)
    else:
        merge_updates_to_rank(lineup, recipe, outputs, stages)
    outputs.jobs += beside.jobs
    outputs.notes += beside.notes
    outputs.modules_to_save, outputs.bias = beside.modules_to_save, beside.bias
    outputs.tokens, outputs.lora_bias = beside.tokens, beside.lora_bias
    outputs.base, outputs.task, outputs.kept = beside.base, beside.task, beside.kept
    settle_tying(lineup, recipe, outputs)
    base = recipe.document.base_model
    if base is not None and outputs.base is None:
        outputs.notes.append(f"the base {base} is not read: an adapter is merged by its updates alone.")


def _request(recipe: Recipe) -> dict[str, Any]:
    options = recipe.adapter
    cut = recipe.merge_options
    tolerance = {str(cut.get("rank_cut", "relative")): cut.get("rank_tolerance", 1e-6)}
    limits = {"rank": options.rank, "energy": options.energy} if recipe.is_sum else {}
    return {"tolerance": tolerance, "precision": recipe.precision, **limits}


def _basis(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, stages: Stages) -> Decomposition:
    """Find the basis that the updates share, and say where it is not unique; weights never enter it."""
    kind: Kind = "joint_columns" if recipe.merge_options["direction"] == "columns" else "joint_rows"
    scales = [[term.module.scale for term in entry.terms] for entry in lineup.entries]
    found = stages.decompose(lineup, kind, scales, _request(recipe))
    lineup.files.append(found.record)
    gaps = zip(lineup.entries, found.modules, strict=True)
    outputs.notes += not_unique(recipe.method, ((entry.path, module["min_gap"]) for entry, module in gaps))
    return found


def lay_out(lineup: AdapterLineup, recipe: Recipe, outputs: Outputs) -> Plan:
    """Lay the tensors out in one file, larger elements first so that all are aligned."""
    jobs = sorted(outputs.jobs, key=lambda job: -element_size(job.dtype))
    offset = 0
    for job in jobs:
        job.offset = offset
        offset += job.nbytes
    seed = recipe.document.seed or 0
    return Plan(lineup.files, [Shard(WEIGHTS, offset)], jobs, seed)
