"""Bases and adapters of chosen numbers, written without PEFT, and what they make together in float64."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]

PREFIX = "base_model.model."
HIDDEN, WIDE, VOCABULARY, LAYERS = 16, 24, 20, 2
Q, DOWN = "model.layers.{}.self_attn.q_proj", "model.layers.{}.mlp.down_proj"


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of a small Llama."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        found[f"model.layers.{layer}.input_layernorm.weight"] = (HIDDEN,)
        found[f"{DOWN.format(layer)}.weight"] = (HIDDEN, WIDE)
        found[f"{Q.format(layer)}.weight"] = (HIDDEN, HIDDEN)
    return {**found, "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def dyadic(rng: np.random.Generator, shape: tuple[int, ...], dtype: Any = np.float32) -> Array:
    """Multiples of 1/8 up to 2: their products of small rank, and sums of these, are exact in float32."""
    return (rng.integers(-16, 17, shape) / 8).astype(dtype)


def write_base(folder: Path, tensors: Mapping[str, Array], **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / "model.safetensors")
    described = {"model_type": "llama", "num_hidden_layers": LAYERS, "tie_word_embeddings": False} | config
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def base_tensors(seed: int = 0, dtype: Any = np.float32, **more: Array) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: dyadic(rng, shape, dtype) for name, shape in shapes().items()} | more


@dataclass
class Handmade:
    """An adapter: factors (A, B) by module path, its configuration, and whatever else its file holds."""

    factors: dict[str, tuple[Array, Array]]
    config: dict[str, Any] = field(default_factory=dict)
    more: dict[str, Array] = field(default_factory=dict)

    @property
    def scale(self) -> float:
        rank: int = self.config.get("r", 2)
        alpha: float = self.config.get("lora_alpha", 2)
        return alpha / rank

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, **self.config}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        tensors = {PREFIX + name: tensor for name, tensor in self.more.items()}
        for path, (a, b) in self.factors.items():
            tensors[f"{PREFIX}{path}.lora_A.weight"] = a
            tensors[f"{PREFIX}{path}.lora_B.weight"] = b
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder

    def updates(self) -> dict[str, Array]:
        """ΔW by tensor name, in float64."""
        return {
            f"{path}.weight": self.scale * (b.astype(np.float64) @ a.astype(np.float64))
            for path, (a, b) in self.factors.items()
        }


def adapter(seed: int, *paths: str, rank: int = 2, dtype: Any = np.float32, **config: Any) -> Handmade:
    """An adapter of dyadic numbers on q_proj of every layer, or on `paths`."""
    rng = np.random.default_rng(1000 + seed)
    sizes = {name.removesuffix(".weight"): shape for name, shape in shapes().items()}
    chosen = paths or tuple(Q.format(layer) for layer in range(LAYERS))
    factors = {
        path: (dyadic(rng, (rank, sizes[path][1]), dtype), dyadic(rng, (sizes[path][0], rank), dtype))
        for path in chosen
    }
    return Handmade(factors, {"r": rank, "lora_alpha": 2 * rank, **config})


def folded(base: Mapping[str, Array], *adapters: tuple[Handmade, float]) -> dict[str, Array]:
    """The base with Σ weight·ΔW, in float64."""
    merged = {name: tensor.astype(np.float64) for name, tensor in base.items()}
    for made, weight in adapters:
        for name, update in made.updates().items():
            merged[name] = merged[name] + weight * update
    return merged
