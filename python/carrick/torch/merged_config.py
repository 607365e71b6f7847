"""The LoraConfig of a merged adapter of a live model."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from carrick.adapters.patterns import exact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PLAIN: dict[str, Any] = {
    "use_rslora": False,
    "use_dora": False,
    "lora_dropout": 0.0,
    # Any other initialisation may rewrite the base when PEFT injects the adapter.
    "init_lora_weights": True,
    "loftq_config": {},
    "eva_config": None,
    "corda_config": None,
    "lora_ga_config": None,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "exclude_modules": None,
    # Head and embeddings of the inputs, as one or not, are merged each by itself.
    "ensure_weight_tying": False,
    "layers_to_transform": None,
    "layers_pattern": None,
    "inference_mode": True,
}


def merged_config(like: Any, ranks: Mapping[str, int], names: Sequence[str]) -> Any:
    """Return a configuration that puts an adapter of these ranks on just these modules, with α = r.

    Parameters
    ----------
    like
        The LoraConfig whose task, base and layout are kept.
    ranks
        The rank of each module by its path.
    names
        All modules of the model.
    """
    usual = Counter(ranks.values()).most_common(1)[0][0]
    pattern = {key: ranks[path] for path, key in exact(ranks).items() if ranks[path] != usual}
    known = {field.name for field in fields(like)}
    changes = {key: value for key, value in _PLAIN.items() if key in known}
    return replace(
        like,
        **changes,
        r=usual,
        lora_alpha=usual,
        rank_pattern=pattern,
        alpha_pattern=dict(pattern),
        target_modules=_targets(list(ranks), names),
    )


def _targets(paths: list[str], names: Sequence[str]) -> list[str] | str:
    """Full paths where PEFT's match by ending takes no other module, else a pattern that cannot."""
    endings = tuple("." + path for path in paths)
    chosen = set(paths)
    if any(name.endswith(endings) and name not in chosen for name in names):
        return "|".join(re.escape(path) for path in sorted(paths))
    return sorted(paths)
