"""A merge of adapters from folders to a folder: headers, decompositions, jobs, one rename."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from carrick import _core
from carrick.adapters.finite import naming_adapter
from carrick.adapters.folder import WEIGHTS
from carrick.adapters.merging.filters import refuse_unmatched
from carrick.adapters.merging.jobs import add_jobs, lay_out, refuse_contradictions
from carrick.adapters.merging.lineup import AdapterLineup, open_adapters
from carrick.adapters.merging.outputs import Outputs
from carrick.adapters.merging.place import check_place
from carrick.adapters.merging.recipe import Recipe
from carrick.adapters.merging.record import adapter_record
from carrick.adapters.merging.stages import CoreStages
from carrick.adapters.write import adapter_config, write_config
from carrick.errors import PlanError
from carrick.partial import JOURNAL, PartialFolder
from carrick.record import NAME as RECORD
from carrick.record import write_record
from carrick.report import MergeReport

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.merging.engine import Engine
    from carrick.config import Document


_NONE_MADE: Mapping[str, Adapter] = {}


@dataclass
class AdapterReport(MergeReport):
    """What a merge of adapters did.

    Attributes
    ----------
    modules
        For each module that went through a decomposition: `path`, `rank`, `sigma` (all singular values),
        `min_gap` (the smallest relative gap between kept ones), `route`, `error` (relative Frobenius error of a
        truncation). Of KnOTS, `sigma`, `min_gap` and `route` are those of the basis that the updates share.
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
    document: Document,
    out: Path,
    engine: Engine,
    *,
    force: bool = False,
    made: Mapping[str, Adapter] = _NONE_MADE,
) -> AdapterReport:
    """Merge the adapters of a document; `made` are the results of other documents by name.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done; nothing is left behind.
    """
    start = time.perf_counter()
    lineup, recipe = open_recipe(document, engine, made)
    check_place(out, document, lineup, made)
    outputs = Outputs(document.output_dtype)
    report = AdapterReport(out, notes=[*document.notes, *lineup.notes])
    with naming_adapter(lambda: lineup.adapters), PartialFolder(out) as partial:
        engine = replace(engine, folder=partial.path)
        stages = CoreStages(engine)
        add_jobs(lineup, recipe, outputs, stages)
        plan = lay_out(lineup, recipe, outputs)
        report.config = config_of(lineup, outputs)
        options = json.dumps({**engine.options, "fresh": True})
        told = json.loads(_core.execute(plan.to_json(), str(partial.path), options, engine.progress))
        _refuse_special(told)
        write_record(adapter_record(lineup, recipe, outputs, plan, told), partial.path)
        write_config(partial.path, report.config)
        partial.prepare_commit({WEIGHTS, f"{WEIGHTS}.part", JOURNAL, RECORD, "adapter_config.json"})
        _core.commit(str(partial.path), str(out), [WEIGHTS], force)
    report.take(told)
    report.bytes_read += stages.bytes_read
    report.modules = outputs.modules
    report.notes += outputs.notes
    report.seconds = time.perf_counter() - start
    return report


def open_recipe(
    document: Document, engine: Engine, made: Mapping[str, Adapter]
) -> tuple[AdapterLineup, Recipe]:
    """Read the headers of a document's adapters, and refuse what does not go together.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done.
    """
    lineup = open_adapters(document, made, download=engine.download)
    refuse_unmatched(document, lineup)
    recipe = Recipe(document, lineup)
    refuse_contradictions(recipe, engine.device)
    return lineup, recipe


def config_of(lineup: AdapterLineup, outputs: Outputs) -> dict[str, Any]:
    """Return the content of adapter_config.json."""
    return adapter_config(
        lineup.adapters[0].config,
        outputs.ranks,
        task=lineup.adapters[outputs.task].config,
        alphas=outputs.alphas,
        modules_to_save=outputs.modules_to_save,
        trainable_token_indices=outputs.tokens,
        bias=outputs.bias,
        lora_bias=outputs.lora_bias,
        ensure_weight_tying=outputs.is_tied,
    )


def _refuse_special(report: dict[str, Any]) -> None:
    """Refuse what no adapter may hold: factors are checked when they are read, other tensors and the result here."""
    for kind, what in (("nan", "NaN"), ("inf", "infinities")):
        if report[kind]:
            name, count = next(iter(report[kind].items()))
            raise PlanError(
                f"{name}: {count} {what}, which adapters may not have; give a base without them, or smaller weights"
            )
    if report["overflow"]:
        name, count = next(iter(report["overflow"].items()))
        raise PlanError(
            f"{name}: {count} values are too large for its element type; write another one, such as --dtype bfloat16"
        )
