"""Layer swapping (Bandarkar et al., 2410.01335): which expert gives which tensor, byte for byte."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from oracles.dtypes import NUMPY, Array
from oracles.files import read_model, write_model

if TYPE_CHECKING:
    from pathlib import Path

ATTENTION = ("input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.o_proj.weight")
MLP = ("post_attention_layernorm.weight", "mlp.up_proj.weight", "mlp.down_proj.weight")
REST = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")


def expert(value: float, layers: int) -> dict[str, Array]:
    names = list(REST) + [f"model.layers.{i}.{part}" for i in range(layers) for part in ATTENTION + MLP]
    return {name: np.full((2, 3) if "norm" not in name else (3,), value, NUMPY["BF16"]) for name in names}


def scaled(count: int, layers: int) -> int:
    """Counts hold for 28 to 48 layers; other depths scale them from 32, halves up, at least 1."""
    return count if 28 <= layers <= 48 else max(1, int(np.floor(count * layers / 32 + 0.5)))


def from_language(name: str, partition: str, layers: int) -> bool:
    """A: all attention and the MLPs of 6 + 2 layers, B: 8 + 4 layers, C: 6 + 2, Z: what B leaves."""
    if name in REST:
        return False
    layer = int(name.split(".")[2])
    first, last = (scaled(c, layers) for c in ((8, 4) if partition in "BZ" else (6, 2)))
    outer = layer < first or layer >= layers - last
    if partition == "A":
        return outer or name.endswith(ATTENTION)
    return outer if partition in "BC" else not outer


def swap(depth: int, folder: Path, parameters: dict[str, Any], **keys: Any) -> dict[str, str]:
    """Where each tensor of the result came from."""
    task, language = expert(1.0, depth), expert(2.0, depth)
    paths = {name: write_model(folder / name, t) for name, t in (("task", task), ("language", language))}
    config = {
        "merge_method": "layer_swap",
        "models": [{"model": str(path), "parameters": {"role": role}} for role, path in paths.items()],
    }
    if parameters:
        config["parameters"] = parameters
    carrick.merge(config | keys, folder / "out")
    got = read_model(folder / "out")
    assert set(got) == set(task)
    origin = {}
    for name, tensor in got.items():
        origin[name] = "task" if tensor.tobytes() == task[name].tobytes() else "language"
        assert tensor.tobytes() in (task[name].tobytes(), language[name].tobytes())
    return origin


@pytest.mark.parametrize("layers", [4, 12, 28, 32, 48, 80])
@pytest.mark.parametrize("partition", ["A", "B", "C", "Z"])
def test_partitions(partition: str, layers: int, tmp_path: Path) -> None:
    origin = swap(layers, tmp_path, {"partition": partition})
    want = {name: "language" if from_language(name, partition, layers) else "task" for name in origin}
    assert origin == want


def test_the_rest_is_an_option(tmp_path: Path) -> None:
    options = {"partition": "B", "embeddings": "language", "final_norm": "language"}
    origin = swap(32, tmp_path, options)
    assert origin["model.embed_tokens.weight"] == "language"
    assert origin["model.norm.weight"] == "language"
    assert origin["lm_head.weight"] == "task"


def test_a_pattern(tmp_path: Path) -> None:
    origin = swap(6, tmp_path, {}, layers={"match": r"layers\.[24]\..*mlp"})
    for name, source in origin.items():
        chosen = "mlp" in name and name.split(".")[2] in ("2", "4")
        assert source == ("language" if chosen else "task"), name


@pytest.mark.parametrize(
    ("layers", "counts"), [({"first": 2, "last": 1}, (2, 1)), ({"first": 0.5, "last": 0.0}, (4, 0))]
)
def test_counts_and_fractions(layers: dict[str, Any], counts: tuple[int, int], tmp_path: Path) -> None:
    origin = swap(8, tmp_path, {}, layers=layers)
    for name, source in origin.items():
        outer = name not in REST and not counts[0] <= int(name.split(".")[2]) < 8 - counts[1]
        assert source == ("language" if outer else "task"), name
