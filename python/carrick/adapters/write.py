"""An adapter's configuration as PEFT reads it, for modules whose ranks may all differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from carrick.adapters.folder import CONFIG
from carrick.adapters.keys import PREFIX, tensor_names
from carrick.adapters.patterns import exact

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from carrick.adapters.config import AdapterConfig

__all__ = [
    "adapter_config",
    "bias_name",
    "magnitude_name",
    "plain_name",
    "tensor_names",
    "tokens_name",
    "write_config",
]

METADATA = {"format": "pt"}
"""Metadata of the safetensors file, which PEFT expects."""

# What a merged adapter is not, whatever its first input was.
_PLAIN: dict[str, Any] = {
    "alora_invocation_tokens": None,
    "exclude_modules": None,
    "inference_mode": True,
    "init_lora_weights": True,
    "layers_pattern": None,
    "layers_to_transform": None,
    "lora_dropout": 0.0,
    "peft_type": "LORA",
    "use_rslora": False,
}
OF_TASK = ("task_type", "auto_mapping")
"""What says which of PEFT's and transformers' classes the adapter is loaded into."""
# Modules of a whole model that have names of one part, which no module within another has.
_OUTERMOST = {"classifier", "embed_tokens", "lm_head", "qa_outputs", "score", "shared", "wpe", "wte"}
# Settings of initialisations, which a finished adapter has no use for and PEFT warns about.
_INITIALISATIONS = ("corda_config", "eva_config", "lora_ga_config", "loftq_config")


def adapter_config(
    first: AdapterConfig,
    ranks: Mapping[str, int],
    *,
    task: AdapterConfig | None = None,
    alphas: Mapping[str, float] | None = None,
    modules_to_save: Iterable[str] = (),
    trainable_token_indices: Mapping[str, Iterable[int]] | None = None,
    bias: str = "none",
    lora_bias: bool = False,
    use_dora: bool = False,
    fan_in_fan_out: bool | None = None,
    ensure_weight_tying: bool = False,
) -> dict[str, Any]:
    r"""Make the content of adapter_config.json for a merged adapter.

    Parameters
    ----------
    first
        Configuration of the first input, from which the base and the version of PEFT are kept.
    ranks
        Rank of each module by its full path. The most frequent one becomes `r`, the others go to
        `rank_pattern`.
    task
        Configuration of the input that has the adapter's task; None for the first.
    alphas
        α of each module, which for all that are not named is the rank: a scale of 1.
    modules_to_save, trainable_token_indices, bias, lora_bias, use_dora
        What the adapter holds besides.
    fan_in_fan_out
        None keeps the first input's.
    ensure_weight_tying
        Whether head and embeddings are one; what the first input says of itself holds for no other adapter.

    Examples
    --------
    >>> from carrick.adapters.config import parse_config
    >>> first = parse_config({"peft_type": "LORA", "r": 8, "lora_alpha": 16, "use_rslora": True}, "config")
    >>> merged = adapter_config(first, {"h.0.q": 16, "h.1.q": 16, "h.1.v": 12})
    >>> merged["r"], merged["lora_alpha"], merged["use_rslora"], merged["rank_pattern"]
    (16, 16, False, {'h\\.1\\.v': 12})
    """
    alphas = {path: (alphas or {}).get(path, rank) for path, rank in ranks.items()}
    r, alpha = _most_frequent(ranks, first.r), _most_frequent(alphas, first.lora_alpha)
    tokens = {name: list(rows) for name, rows in (trainable_token_indices or {}).items()}
    config = {key: value for key, value in first.raw.items() if key not in _INITIALISATIONS}
    config |= {key: ({} if key == "loftq_config" else None) for key in _INITIALISATIONS if key in first.raw}
    if task is not None:
        config |= {key: task.raw.get(key) for key in OF_TASK if key in config or key in task.raw}
    if ensure_weight_tying or "ensure_weight_tying" in config:  # which older versions of PEFT do not know
        config["ensure_weight_tying"] = ensure_weight_tying
    return config | {
        **_PLAIN,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": _patterns(ranks, r),
        "alpha_pattern": _patterns(alphas, alpha),
        "target_modules": _targets(sorted(ranks)),
        "modules_to_save": sorted(modules_to_save) or None,
        "trainable_token_indices": tokens or None,
        "bias": bias,
        "lora_bias": lora_bias,
        "use_dora": use_dora,
        "fan_in_fan_out": first.fan_in_fan_out if fan_in_fan_out is None else fan_in_fan_out,
    }


def write_config(folder: Path, config: Mapping[str, Any]) -> Path:
    """Write adapter_config.json with its keys sorted, as PEFT does, and return its path.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> print(write_config(pathlib.Path(tempfile.mkdtemp()), {"r": 8, "lora_alpha": 8}).read_text())
    {
      "lora_alpha": 8,
      "r": 8
    }
    """
    path = folder / CONFIG
    path.write_text(json.dumps(dict(sorted(config.items())), indent=2), encoding="utf-8")
    return path


def bias_name(path: str) -> str:
    """Key of the bias of B on disk."""
    return f"{PREFIX}{path}.lora_B.bias"


def magnitude_name(path: str) -> str:
    """Key of DoRA's magnitudes on disk."""
    return f"{PREFIX}{path}.lora_magnitude_vector"


def tokens_name(path: str) -> str:
    """Key of an embedding's replaced rows on disk."""
    return f"{PREFIX}{path}.token_adapter.trainable_tokens_delta"


def plain_name(name: str, modules: Collection[str], tokens: Collection[str] = ()) -> str:
    """Key on disk of a tensor that replaces the base's; wrapped modules keep theirs one or two levels deeper.

    Parameters
    ----------
    name
        The tensor's name in the base.
    modules
        Paths of the LoRA modules.
    tokens
        Paths of the modules of which rows are replaced.

    Examples
    --------
    >>> plain_name("score.weight", {"embed_tokens"}), plain_name("embed_tokens.weight", {"embed_tokens"})
    ('base_model.model.score.weight', 'base_model.model.embed_tokens.base_layer.weight')
    >>> plain_name("embed_tokens.weight", (), {"embed_tokens"})
    'base_model.model.embed_tokens.token_adapter.base_layer.weight'
    """
    module, _, leaf = name.rpartition(".")
    if module in tokens:
        return f"{PREFIX}{module}.token_adapter.base_layer.{leaf}"
    return f"{PREFIX}{module}.base_layer.{leaf}" if module in modules else f"{PREFIX}{name}"


def _most_frequent(values: Mapping[str, Any], otherwise: Any) -> Any:
    """Return the most frequent value, the smallest of several; the same on every machine."""
    counts = Counter(values.values())
    return min(counts, key=lambda value: (-counts[value], value)) if counts else otherwise


def _targets(paths: list[str]) -> list[str] | str:
    """Name the modules as PEFT finds them: by the ends of paths, or by one pattern for all of a path.

    `fc` in a list would also be `sub.fc`, which may be there without factors; no other module's path ends in that of a
    module of a layer, nor in the usual name of a head or of embeddings.
    """
    if all("." in path or path in _OUTERMOST for path in paths):
        return paths
    return "|".join(map(re.escape, paths))


def _patterns(values: Mapping[str, Any], default: Any) -> dict[str, Any]:
    """Give every module that has not the default a pattern of its own."""
    return {
        pattern: values[path] for path, pattern in exact(sorted(values)).items() if values[path] != default
    }
