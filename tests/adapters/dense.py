"""What an adapter makes of its base, in dense float64 NumPy, from what the reader says of the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from carrick.adapters.keys import base_name, orientations
from carrick.checkpoints import LazyTensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from carrick.adapters import Adapter, LoraModule

    Tensors = dict[str, NDArray[np.float64]]


def values(adapter: Adapter) -> Tensors:
    with LazyTensors(adapter.checkpoint) as lazy:
        return {name: np.array(lazy[name], np.float64) for name in lazy}


def delta(module: LoraModule, held: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """ΔW as (out, in)."""
    a, b = held[module.a_name], held[module.b_name]
    product: NDArray[np.float64] = module.scale * (b.reshape(b.shape[0], -1) @ a.reshape(a.shape[0], -1))
    return product


def applied(adapter: Adapter, base: Tensors) -> Tensors:
    """The base with the adapter folded in."""
    held = values(adapter)
    merged = {name: tensor.copy() for name, tensor in base.items()}
    for part in (adapter.saved, adapter.biases):
        for name in part:
            merged[name] = held[adapter.keys[name]]
    for path, tokens in adapter.tokens.items():
        merged[f"{path}.weight"][list(tokens.indices)] = held[adapter.keys[path]]
    names = {path: base_name(module, base) for path, module in adapter.modules.items()}
    flat = {path: base[name].shape for path, name in names.items()}
    turned = orientations(adapter.modules.values(), flat)
    for path, module in adapter.modules.items():
        weight = merged[names[path]]
        change = delta(module, held)
        change = (change.T if turned[path] else change).reshape(weight.shape)
        merged[names[path]] = weight + change
        if module.magnitude is not None:
            merged[names[path]] = _dora(
                weight + change, held[adapter.keys[f"{path}.lora_magnitude_vector"]], turned[path]
            )
        if module.bias is not None:
            merged[f"{path}.bias"] += module.scale * held[adapter.keys[f"{path}.lora_B.bias"]]
    return merged


def _dora(whole: NDArray[np.float64], magnitude: NDArray[np.float64], turned: bool) -> NDArray[np.float64]:
    rows = whole.T if turned else whole.reshape(len(whole), -1)
    scaled = magnitude.reshape(-1, 1) * rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled.T if turned else scaled.reshape(whole.shape)
