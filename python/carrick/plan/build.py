"""From a document and its models to a plan: the one entry of this package.

Everything that can fail for a reason that a user can mend fails here, before a byte is written.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carrick.adapters.extracting.naming import ends_in_words
from carrick.checkpoints.checkpoint import Checkpoint
from carrick.checkpoints.headers import FileRecord, StoredTensor
from carrick.errors import PlanError
from carrick.knots.modules import divide
from carrick.plan.assemble import Assembly
from carrick.plan.describe import describe, edited_config
from carrick.plan.dtypes import OutputTypes
from carrick.plan.filters import check_filters
from carrick.plan.job import Plan
from carrick.plan.layer_swap import tied_note
from carrick.plan.layout import DEFAULT_SHARD_SIZE, KEEP, keep_shards, lay_out
from carrick.plan.lineup import Model, Models, open_models, refuse_lost, tokenizer_folder
from carrick.plan.match import match_whole
from carrick.plan.output import check_output_of_plan
from carrick.plan.quantized import refuse_quantized
from carrick.plan.slices import match_slices
from carrick.plan.tied import TIED, decide_ties, tied_heads_follow
from carrick.plan.tokens import check_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.config import Document
    from carrick.plan.job import Job, Shard
    from carrick.plan.layout import ShardSize
    from carrick.plan.match import Target

_NO_INTERMEDIATES: dict[str, Checkpoint] = {}


def build_plan(
    document: Document,
    out: Path | str | None = None,
    *,
    shard_size: ShardSize = DEFAULT_SHARD_SIZE,
    seed: int | None = None,
    download: bool = False,
    intermediates: Mapping[str, Checkpoint] = _NO_INTERMEDIATES,
) -> Plan:
    """Plan a merge from the headers of its models.

    Parameters
    ----------
    document
        One merge, as `carrick.config.load` gives it.
    out
        Output folder, for the checks of place and room; None skips them.
    shard_size
        Bytes of data in an output shard; `keep` leaves every tensor in the shard that the donor has it in.
    seed
        Seed of random masks; None takes the document's, or 0.
    download
        Fetch models that are not in the local cache.
    intermediates
        Outputs of other documents of the file by name.

    Raises
    ------
    PlanError
        The merge cannot work; the message names tensor, file and remedy.
    FormatError
        A model's files are missing or malformed.
    ConfigError
        A parameter that no value fits for some tensor.
    """
    if shard_size != KEEP and shard_size <= 0:
        raise PlanError(f"a shard size of {shard_size} bytes is too small; give at least 1")
    if shard_size == KEEP and document.stacked:
        raise PlanError(
            "the layers of `slices` have new numbers, so no shards can be kept; give a shard size"
        )
    models = open_models(document, intermediates, download=download)
    for model in models.distinct:
        refuse_quantized(model.checkpoint)
    merged = _merged(document, models)
    ties = decide_ties(merged, document.tie, document.roles)
    refuse_lost(merged)
    tied = ties.state == TIED
    matched = match_slices(document, models, tied=tied) if document.stacked else match_whole(document, models)
    if not matched.targets:
        raise PlanError(f"{models.donor.ref}: holds no tensors, so there is nothing to merge")
    filters = check_filters(document, models, matched)
    types = OutputTypes(models.donor.origin, document.output_dtype)
    assembly = Assembly(document, models, types)
    matched.targets.sort(key=lambda target: target.order)
    jobs, shards = _lay_out(assembly, matched.targets, models.donor, shard_size)
    in_bases = divide(jobs, models.donor.checkpoint)
    config = edited_config(document, models, ties)
    chosen = seed if seed is not None else document.seed if document.seed is not None else 0
    tokenizer = tokenizer_folder(document, models, intermediates, download=download)
    # A swap takes every tensor from one model.
    if document.tokenizer is not None and document.method.name != "layer_swap":
        check_tokens(tokenizer, matched.targets)
    if document.tokenizer not in {None, "base"}:
        tokenizer["asked"] = True
    meta = describe(document, models, types, config) | {
        "seed": chosen,
        "tokenizer": tokenizer,
        "tie": ties.state,
        "rank": document.adapter.rank if document.adapter else None,
        "unmatched": matched.unmatched,
    }
    swapped = tied_note(document.layer_swap) if tied else []
    worded = [model for model in merged if ends_in_words(model.checkpoint)]
    follow = tied_heads_follow(worded, document.roles) if tied else []
    notes = [
        *meta["notes"],
        *filters,
        *ties.notes,
        *swapped,
        *follow,
        *assembly.notes(),
        *in_bases,
        *config.notes,
    ]
    meta["notes"] = list(dict.fromkeys(notes))
    plan = Plan(models.files, shards, jobs, chosen, meta)
    if out is not None:
        check_output_of_plan(plan, Path(out))
    return plan


def planned_checkpoint(plan: Plan, folder: Path, name: str) -> Checkpoint:
    """Describe a plan's output as the checkpoint that it will be: the next document is planned on it.

    Sizes and hashes of its files are not known yet: a plan made from it can be shown, not run.
    """
    records = [FileRecord(str(folder / s.name), s.data_bytes, 0, 0, "", 0) for s in plan.shards]
    tensors = {
        j.name: StoredTensor(j.shard, j.offset, j.offset + j.nbytes, j.dtype, tuple(j.shape))
        for j in plan.jobs
    }
    return Checkpoint(name, folder, records, tensors, plan.meta.get("config_json"))


def _lay_out(
    assembly: Assembly, targets: list[Target], donor: Model, shard_size: ShardSize
) -> tuple[list[Job], list[Shard]]:
    jobs = [assembly.job(target) for target in targets]
    if shard_size != KEEP:
        return lay_out(jobs, shard_size)
    last = len(donor.origin.files) - 1
    # Rank 0 is the donor's; what it does not hold is written behind everything else.
    return keep_shards(jobs, [min(t.order[1], last) if t.order[0] == 0 else last for t in targets])


def _merged(document: Document, models: Models) -> list[Model]:
    """Models that give weights, each once, in order of listing."""
    refs = dict.fromkeys(source.ref for part in document.parts for source in part.sources)
    return [models.by_ref[ref] for ref in refs]
