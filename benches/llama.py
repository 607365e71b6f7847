"""Llama-shaped checkpoints with random weights: a base and fine-tunes that differ from it by small deltas.

The numbers are drawn piece by piece, so that the memory needed does not depend on the size of the model,
and by a generator keyed by (seed, tensor, piece), so that they do not depend on the number of threads.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

PIECE = 1 << 22
SHARD_BYTES = 5 * 10**9
BASE_SPREAD = 0.02
DELTA_SPREAD = 0.001
DTYPES = {"BF16": np.dtype(ml_dtypes.bfloat16), "F16": np.dtype(np.float16), "F32": np.dtype(np.float32)}
TORCH_NAMES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}


@dataclass(frozen=True)
class Shape:
    """What config.json says of a Llama; tied embeddings, no biases."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return every tensor's shape by name, in the order in which they are stored."""
        hidden, inner = self.hidden, self.intermediate
        query, key = self.heads * self.head_dim, self.kv_heads * self.head_dim
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.vocabulary, hidden)}
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            shapes |= {
                prefix + "input_layernorm.weight": (hidden,),
                prefix + "mlp.down_proj.weight": (hidden, inner),
                prefix + "mlp.gate_proj.weight": (inner, hidden),
                prefix + "mlp.up_proj.weight": (inner, hidden),
                prefix + "post_attention_layernorm.weight": (hidden,),
                prefix + "self_attn.k_proj.weight": (key, hidden),
                prefix + "self_attn.o_proj.weight": (hidden, query),
                prefix + "self_attn.q_proj.weight": (query, hidden),
                prefix + "self_attn.v_proj.weight": (key, hidden),
            }
        return shapes | {"model.norm.weight": (hidden,)}

    @property
    def parameters(self) -> int:
        """Number of entries of all tensors."""
        return sum(prod(shape) for shape in self.tensors().values())

    def scaled(self, fraction: float) -> Shape:
        """Return a model of about `fraction` of the entries: every width shrinks by the square root of it."""
        factor = fraction**0.5
        return replace(
            self,
            hidden=_rounded(self.hidden * factor, 64),
            intermediate=_rounded(self.intermediate * factor, 64),
            heads=max(1, round(self.heads * factor)),
            kv_heads=max(1, round(self.kv_heads * factor)),
            vocabulary=_rounded(self.vocabulary * factor, 64),
        )

    def config(self, dtype: str) -> dict[str, Any]:
        """Return the config.json of this model."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "bos_token_id": 1,
            "dtype": TORCH_NAMES[dtype],
            "eos_token_id": 2,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden,
            "initializer_range": BASE_SPREAD,
            "intermediate_size": self.intermediate,
            "max_position_embeddings": 2048,
            "model_type": "llama",
            "num_attention_heads": self.heads,
            "num_hidden_layers": self.layers,
            "num_key_value_heads": self.kv_heads,
            "rms_norm_eps": 1e-05,
            "tie_word_embeddings": True,
            "vocab_size": self.vocabulary,
        }


def _rounded(value: float, multiple: int) -> int:
    return max(multiple, round(value / multiple) * multiple)


@dataclass(frozen=True)
class _Place:
    """Where one tensor of one model lies."""

    descriptor: int
    offset: int


def shard_layout(shapes: dict[str, tuple[int, ...]], itemsize: int) -> list[dict[str, tuple[int, ...]]]:
    """Divide tensors into shards of at most `SHARD_BYTES`, in their order."""
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    filled = 0
    for name, shape in shapes.items():
        nbytes = prod(shape) * itemsize
        if filled and filled + nbytes > SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = shape
        filled += nbytes
    return shards


def header_bytes(shapes: dict[str, tuple[int, ...]], dtype: str) -> tuple[bytes, dict[str, int], int]:
    """Return the start of a safetensors file, each tensor's offset in the file, and the file's size."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    relative: dict[str, int] = {}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + prod(shape) * DTYPES[dtype].itemsize
        relative[name] = begin
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    start = 8 + len(text)
    return len(text).to_bytes(8, "little") + text, {n: start + at for n, at in relative.items()}, start + end


def _create(folder: Path, shapes: dict[str, tuple[int, ...]], dtype: str) -> dict[str, _Place]:
    """Create the files of one model, headers written, tensors still holes."""
    folder.mkdir(parents=True)
    shards = shard_layout(shapes, DTYPES[dtype].itemsize)
    places: dict[str, _Place] = {}
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        single = len(shards) == 1
        name = "model.safetensors" if single else f"model-{number:05}-of-{len(shards):05}.safetensors"
        start, offsets, size = header_bytes(shard, dtype)
        descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        os.pwrite(descriptor, start, 0)
        os.truncate(descriptor, size)
        places |= {tensor: _Place(descriptor, offset) for tensor, offset in offsets.items()}
        weight_map |= dict.fromkeys(shard, name)
    if len(shards) > 1:
        total = sum(prod(shape) for shape in shapes.values()) * DTYPES[dtype].itemsize
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return places


def write_family(
    folder: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: str,
    tuned: int,
    *,
    seed: int = 0,
    threads: int = 2,
) -> list[Path]:
    """Write `base` and `tuned-1` … `tuned-N` below `folder` and return their folders.

    Parameters
    ----------
    shapes
        The tensors of each model, in their order in the files.
    dtype
        safetensors' name of the element type.
    tuned
        Number of fine-tunes; each adds N(0, 0.001) to the base's N(0, 0.02), then both are rounded.
    """
    folders = [folder / "base", *(folder / f"tuned-{number + 1}" for number in range(tuned))]
    models = [_create(path, shapes, dtype) for path in folders]

    def fill(tensor: int, name: str, first: int, count: int) -> None:
        draw = np.random.default_rng([seed, tensor, first])
        base = draw.standard_normal(count, dtype=np.float32) * np.float32(BASE_SPREAD)
        if len(shapes[name]) == 1:
            base += np.float32(1)
        for number, model in enumerate(models):
            values = base
            if number:
                values = base + draw.standard_normal(count, dtype=np.float32) * np.float32(DELTA_SPREAD)
            data = values.astype(DTYPES[dtype])
            place = model[name]
            os.pwrite(place.descriptor, data.view(np.uint8), place.offset + first * data.itemsize)

    with ThreadPoolExecutor(threads) as pool:
        pieces = [
            pool.submit(fill, tensor, name, first, min(PIECE, prod(shape) - first))
            for tensor, (name, shape) in enumerate(shapes.items())
            for first in range(0, prod(shape), PIECE)
        ]
        for piece in pieces:
            piece.result()
    for descriptor in {place.descriptor for model in models for place in model.values()}:
        os.fsync(descriptor)
        os.close(descriptor)
    return folders


def write_config(folders: list[Path], shape: Shape, dtype: str) -> None:
    """Put a config.json beside the weights of each model."""
    for folder in folders:
        (folder / "config.json").write_text(json.dumps(shape.config(dtype), indent=2) + "\n")


LLAMA_100M = Shape(12, 768, 2048, 12, 4, 64, 32000)
LLAMA_1B = Shape(16, 2048, 8192, 32, 8, 64, 128256)
LLAMA_3B = Shape(28, 3072, 8192, 24, 8, 128, 128256)
LLAMA_70B = Shape(80, 8192, 28672, 64, 8, 128, 128256)
LLAMA_405B = Shape(126, 16384, 53248, 128, 8, 128, 128256)
