"""The LoRA layers of a live PeftModel: what is in them, and what a merge of factors cannot take along."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import torch

from carrick.adapters.variants import refuse_initialisation
from carrick.errors import CarrickError
from carrick.torch.modules import Term

if TYPE_CHECKING:
    from collections.abc import Sequence

_ELSEWHERE = "merge the saved folders with `carrick adapters merge`, or train without it"

_REFUSED = {
    "use_dora": "DoRA scales columns of the base's own weights",
    "modules_to_save": "full copies of modules (modules_to_save) are not LoRA factors",
    "lora_bias": "a bias beside B (lora_bias) is not in ΔW",
    "trainable_token_indices": "trained tokens are not LoRA factors",
    "target_parameters": "parameters of experts (target_parameters) have factors of another layout",
    "layer_replication": "replicated layers (layer_replication) change the base",
    "megatron_config": "layers split by Megatron are not whole here",
}


def refuse_config(adapter: str, config: Any) -> None:
    """Refuse an adapter whose configuration has more than LoRA factors, or that began by changing the base.

    Raises
    ------
    CarrickError
        It has, or did; the message says what, and what to do.
    """
    for key, reason in _REFUSED.items():
        if getattr(config, key, None):
            raise CarrickError(f"adapter `{adapter}` has `{key}`: {reason}; {_ELSEWHERE}")
    refuse_initialisation(getattr(config, "init_lora_weights", True), f"adapter `{adapter}`")
    bias = getattr(config, "bias", "none")
    if bias != "none":
        raise CarrickError(
            f"adapter `{adapter}` has `bias: {bias}`: trained biases of the base are not in ΔW; {_ELSEWHERE}"
        )


@dataclass(frozen=True, slots=True)
class LiveLayer:
    """A LoRA layer of a live model; ΔW = s·B·A whichever way round the base stores its weight."""

    path: str
    layer: Any
    embedding: bool

    @property
    def a_name(self) -> str:
        """The name that A would have in an adapter's file."""
        return f"base_model.model.{self.path}.lora_" + ("embedding_A" if self.embedding else "A.weight")

    @property
    def device(self) -> torch.device:
        """Where the factors are, or the CPU where nothing can be decomposed there."""
        group = self.layer.lora_embedding_A if self.embedding else self.layer.lora_A
        found = next(iter(group.parameters())).device
        return found if found.type in ("cpu", "cuda") else torch.device("cpu")

    def has(self, adapter: str) -> bool:
        """Whether an adapter has this layer."""
        return adapter in (self.layer.lora_embedding_A if self.embedding else self.layer.lora_A)

    def _parameters(self, adapter: str) -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
        if self.embedding:
            return self.layer.lora_embedding_A[adapter], self.layer.lora_embedding_B[adapter]
        return self.layer.lora_A[adapter].weight, self.layer.lora_B[adapter].weight

    def factors(self, adapter: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A and B."""
        a, b = self._parameters(adapter)
        return a.data, b.data

    def terms(self, adapters: Sequence[str]) -> list[Term | None]:
        """Return the terms of these adapters."""
        return [
            Term(*self.factors(adapter), float(self.layer.scaling[adapter])) if self.has(adapter) else None
            for adapter in adapters
        ]

    def dtype(self, adapters: Sequence[str]) -> torch.dtype:
        """Return the type that holds the factors of all these adapters."""
        kinds = [x.dtype for adapter in adapters if self.has(adapter) for x in self.factors(adapter)]
        return reduce(torch.promote_types, kinds)

    def store(self, adapter: str, factors: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> None:
        """Write the factors of an adapter, and freeze it."""
        for parameter, new in zip(self._parameters(adapter), factors, strict=True):
            if parameter.shape != new.shape:
                raise CarrickError(
                    f"{self.path}: PEFT made room for {tuple(parameter.shape)}, the merge is {tuple(new.shape)}"
                )
            parameter.data = new.to(parameter.device, dtype)
            parameter.requires_grad_(False)


def find_layers(model: Any, adapters: Sequence[str]) -> list[LiveLayer]:
    """Return the layers that at least one of the adapters has.

    Raises
    ------
    CarrickError
        There are none, or one is of a kind that cannot be merged.
    """
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415  only those who hold a PeftModel have it

    layers = []
    for path, layer in model.named_modules():
        if not isinstance(layer, LoraLayer):
            continue
        having = [name for name in adapters if name in layer.lora_A or name in layer.lora_embedding_A]
        if having:
            layers.append(_layer(path, layer, having))
    if not layers:
        raise CarrickError(f"no module of the model has {', '.join(f'`{name}`' for name in adapters)}")
    return layers


def _layer(path: str, layer: Any, adapters: Sequence[str]) -> LiveLayer:
    for adapter in adapters:
        variant = getattr(layer, "lora_variant", {}).get(adapter)
        if variant is not None:
            kind = type(variant).__name__
            raise CarrickError(f"{path}: adapter `{adapter}` is a {kind}, not plain LoRA; {_ELSEWHERE}")
        if adapter in layer.lora_embedding_A:
            continue
        pair = (layer.lora_A[adapter], layer.lora_B[adapter])
        for factor in pair:
            if not isinstance(factor, torch.nn.Linear) or type(layer).__name__ in (
                "MultiheadAttention",
                "ParamWrapper",
            ):
                raise CarrickError(
                    f"{path}: a LoRA of {type(layer).__name__} is not of linear layers or embeddings; {_ELSEWHERE}"
                )
    found = LiveLayer(path, layer, adapters[0] in layer.lora_embedding_A)
    for adapter in adapters:
        if any(factor.is_meta for factor in found.factors(adapter)):
            raise CarrickError(f"{path}: adapter `{adapter}` is on the meta device; load its weights first")
    return found
