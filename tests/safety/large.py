"""Checkpoints of a given size, made quickly: one block of random numbers, shifted by its place."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from oracles.dtypes import NUMPY

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 1 << 22


def write_large(folder: Path, seed: int, tensors: dict[str, int]) -> Path:
    """A bfloat16 model; `tensors` are counts of elements by name."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    header: dict[str, Any] = {}
    offset = 0
    for name, n in tensors.items():
        header[name] = {"dtype": "BF16", "shape": [n // 1024, 1024], "data_offsets": [offset, offset + 2 * n]}
        offset += 2 * n
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    block = (rng.standard_normal(BLOCK) * 0.02).astype(np.float32).astype(NUMPY["BF16"])
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for n in tensors.values():
            for start in range(0, n, BLOCK):
                file.write(np.roll(block, start // BLOCK * 977)[: min(BLOCK, n - start)].tobytes())
    return folder


def ties_config(folder: Path, tensors: dict[str, int], **parameters: Any) -> dict[str, Any]:
    """A base and two models on disk, and the configuration that merges them."""
    base, *models = (write_large(folder / f"m{seed}", seed, tensors) for seed in range(3))
    each = {"weight": 0.5, "density": 0.4} | parameters
    return {
        "merge_method": "ties",
        "base_model": str(base),
        "models": [{"model": str(model), "parameters": each} for model in models],
    }
