"""adapter_config.json as typed values: whatever changes the mathematics is read here, or refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from carrick.adapters.config_values import Values
from carrick.adapters.patterns import Patterns
from carrick.adapters.variants import refuse_variants, unknown_keys
from carrick.checkpoints import read_json
from carrick.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

BIASES = ("none", "all", "lora_only")


@dataclass(frozen=True)
class AdapterConfig:
    """What adapter_config.json says.

    Attributes
    ----------
    raw
        The file as it is.
    r, lora_alpha, use_rslora, rank_pattern, alpha_pattern
        Rank and scale of each module; `rank_of`, `alpha_of` and `scale_of` apply them.
    fan_in_fan_out
        Whether the base stores its linear weights as (in, out). PEFT writes what the last module it wrapped
        was, so the shapes of the base decide where there is one (`carrick.adapters.keys.orientations`).
    use_dora, lora_bias, bias
        DoRA magnitudes, biases of B, and which of the base's biases were trained.
    modules_to_save, trainable_token_indices
        Modules trained in full; rows of embeddings trained by themselves, the key "" for the input embedding.
    target_modules, layers_to_transform, layers_pattern
        Which modules were meant; the tensors of the file say which there are.
    ensure_weight_tying
        Whether head and embeddings of a base that ties them were trained as one.
    task_type, base_model_name_or_path, revision, init_lora_weights
        For information; an initialisation that changes the base is refused.
    unknown
        Keys that this version does not know and that are set to something.
    """

    raw: dict[str, Any] = field(repr=False)
    r: int
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    fan_in_fan_out: bool = False
    use_dora: bool = False
    lora_bias: bool = False
    bias: str = "none"
    modules_to_save: tuple[str, ...] = ()
    target_modules: tuple[str, ...] | str | None = None
    layers_to_transform: tuple[int, ...] | None = None
    layers_pattern: tuple[str, ...] = ()
    trainable_token_indices: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ensure_weight_tying: bool = False
    task_type: str | None = None
    base_model_name_or_path: str | None = None
    revision: str | None = None
    init_lora_weights: bool | str = True
    unknown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        set_once = object.__setattr__
        set_once(self, "_ranks", Patterns(self.rank_pattern, "`rank_pattern`"))
        set_once(self, "_alphas", Patterns(self.alpha_pattern, "`alpha_pattern`"))

    def rank_of(self, path: str) -> int:
        """Rank that the configuration gives a module."""
        found: int | None = self._ranks.find(path)  # type: ignore[attr-defined]
        return self.r if found is None else found

    def alpha_of(self, path: str) -> float:
        """Alpha that the configuration gives a module."""
        found: float | None = self._alphas.find(path)  # type: ignore[attr-defined]
        return self.lora_alpha if found is None else found

    def scale_of(self, path: str) -> float:
        """Factor of B·A in a module: α/r, or α/√r with rsLoRA.

        Examples
        --------
        >>> config = AdapterConfig({}, r=4, lora_alpha=8, alpha_pattern={"v_proj": 2}, rank_pattern={"v_proj": 1})
        >>> config.scale_of("layers.0.q_proj"), config.scale_of("layers.0.v_proj")
        (2.0, 2.0)
        >>> AdapterConfig({}, r=4, lora_alpha=8, use_rslora=True).scale_of("q_proj")
        4.0
        """
        rank = self.rank_of(path)
        return self.alpha_of(path) / (math.sqrt(rank) if self.use_rslora else rank)


def read_config(path: Path) -> AdapterConfig:
    """Read adapter_config.json.

    Raises
    ------
    FormatError
        Malformed, not LoRA, a value of the wrong type, or a variant that Carrick does not compute.
    """
    raw = read_json(path)
    if not isinstance(raw, dict):
        raise FormatError(f"{path}: is not a JSON object; restore it from where the adapter was saved")
    return parse_config(raw, str(path))


def parse_config(raw: dict[str, Any], source: str) -> AdapterConfig:
    """Check the content of an adapter_config.json; `source` stands in front of every message.

    Examples
    --------
    >>> parse_config({"peft_type": "LORA", "r": 8, "lora_alpha": 16}, "config").lora_alpha
    16
    """
    refuse_variants(raw, source)
    values = Values(raw, source)
    rank_pattern = values.mapping("rank_pattern", values.positive)
    alpha_pattern = values.mapping("alpha_pattern", values.number)
    try:
        return AdapterConfig(
            raw=raw,
            r=values.positive("r", values.required("r")),
            lora_alpha=values.number("lora_alpha", values.required("lora_alpha")),
            use_rslora=values.flag("use_rslora"),
            rank_pattern=rank_pattern,
            alpha_pattern=alpha_pattern,
            fan_in_fan_out=values.flag("fan_in_fan_out"),
            use_dora=values.flag("use_dora"),
            lora_bias=values.flag("lora_bias"),
            bias=values.choice("bias", BIASES),
            modules_to_save=values.names("modules_to_save"),
            target_modules=_target_modules(values),
            layers_to_transform=values.indices("layers_to_transform"),
            layers_pattern=values.names("layers_pattern"),
            trainable_token_indices=_token_indices(values),
            ensure_weight_tying=values.flag("ensure_weight_tying"),
            task_type=values.text("task_type"),
            base_model_name_or_path=values.text("base_model_name_or_path"),
            revision=values.text("revision"),
            init_lora_weights=raw.get("init_lora_weights", True),
            unknown=unknown_keys(raw),
        )
    except FormatError as error:
        raise FormatError(str(error) if str(error).startswith(source) else f"{source}: {error}") from None


def _target_modules(values: Values) -> tuple[str, ...] | str | None:
    found = values.raw.get("target_modules")
    return found if isinstance(found, str) or found is None else values.names("target_modules")


def _token_indices(values: Values) -> dict[str, tuple[int, ...]]:
    """Read a list for the input embedding (the key ""), or a list for each embedding."""
    key = "trainable_token_indices"
    found = values.raw.get(key)
    if isinstance(found, dict):
        return {str(name): values.index_list(f"{key}.{name}", indices) for name, indices in found.items()}
    return {} if not found else {"": values.index_list(key, found)}
