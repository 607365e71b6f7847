"""carrick.json of a merged adapter: from which bytes, by which method, to which bytes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick import __version__
from carrick.adapters.merging.beside import MERGE, REFUSE, index_of
from carrick.record import CHECKSUM, tensors_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.adapters.merging.lineup import AdapterLineup
    from carrick.adapters.merging.outputs import Outputs
    from carrick.adapters.merging.recipe import Recipe
    from carrick.checkpoints import Checkpoint, FileRecord
    from carrick.plan import Plan


def adapter_record(
    lineup: AdapterLineup, recipe: Recipe, outputs: Outputs, plan: Plan, report: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that tells one merge of adapters from another; no times, no absolute paths."""
    document, options = recipe.document, recipe.adapter
    first = recipe.of(lineup.entries[0]) if recipe.method != "layer_swap" else None
    return {
        "format": "carrick-adapter-record",
        "version": 1,
        "carrick": __version__,
        "method": recipe.method,
        "variant": document.variant,
        "seed": plan.seed,
        "options": {**recipe.merge_options, **(first.options if first else {})},
        # Of every module: weights and options may differ by filter.
        "values_hash": _values_hash(recipe, lineup),
        "rank": options.rank,
        "energy": options.energy,
        "space": options.space,
        "precision": options.precision,
        "modules_to_save": _modules_to_save(options.modules_to_save, lineup),
        **({"base": _base(outputs.base)} if outputs.base else {}),
        "inputs": [
            {
                "name": Path(adapter.ref).name,
                "revision": adapter.revision,
                "base": adapter.config.base_model_name_or_path,
                "parameters": first.parameters[index] if first else {},
                "files": _files(adapter.files),
            }
            for index, adapter in enumerate(lineup.adapters)
        ],
        "modules": [
            {name: module[name] for name in ("path", "rank", "route", "error", "min_gap")}
            for module in outputs.modules
        ],
        "checksum": CHECKSUM,
        "tensors": tensors_of(report),
    }


def _modules_to_save(policy: str, lineup: AdapterLineup) -> str | int:
    """Return the policy, an adapter by its number from 1: its name may be a path of this machine."""
    return policy if policy in {REFUSE, MERGE} else index_of(policy, lineup) + 1


def _base(base: Checkpoint) -> dict[str, Any]:
    return {"name": Path(base.ref).name, "revision": base.revision, "files": _files(base.files)}


def _files(files: Sequence[FileRecord]) -> list[dict[str, Any]]:
    return [{"name": Path(f.path).name, "size": f.size, "header_hash": f.header_hash} for f in files]


def _values_hash(recipe: Recipe, lineup: AdapterLineup) -> str:
    """Hash the options and parameters of all modules (SHA-256)."""
    values = [] if recipe.method == "layer_swap" else [recipe.of(entry) for entry in lineup.entries]
    content = [[value.options, value.parameters] for value in values]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
