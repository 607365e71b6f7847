"""Tiny checkpoints, and plans made from YAML."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

from carrick.config import loads
from carrick.plan import Job, Plan, build_plan

if TYPE_CHECKING:
    from pathlib import Path

BF16 = ml_dtypes.bfloat16
Tensors = dict[str, np.ndarray[Any, Any]]


def llama_layer(number: int, hidden: int = 4, prefix: str = "model.layers") -> dict[str, tuple[int, ...]]:
    return {
        f"{prefix}.{number}.input_layernorm.weight": (hidden,),
        f"{prefix}.{number}.mlp.down_proj.weight": (hidden, 2 * hidden),
        f"{prefix}.{number}.mlp.up_proj.weight": (2 * hidden, hidden),
        f"{prefix}.{number}.post_attention_layernorm.weight": (hidden,),
        f"{prefix}.{number}.self_attn.q_proj.weight": (hidden, hidden),
    }


def llama(
    layers: int = 4, hidden: int = 4, vocab: int = 8, *, head: bool = True, dtype: Any = BF16, seed: int = 0
) -> Tensors:
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (vocab, hidden)}
    for number in range(layers):
        shapes |= llama_layer(number, hidden)
    shapes["model.norm.weight"] = (hidden,)
    if head:
        shapes["lm_head.weight"] = (vocab, hidden)
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def llama_config(layers: int = 4, **more: Any) -> dict[str, Any]:
    config = {"model_type": "llama", "num_hidden_layers": layers, "torch_dtype": "bfloat16"}
    return config | {"tie_word_embeddings": False} | more


def write(folder: Path, tensors: Tensors, config: dict[str, Any] | None = None, shards: int = 1) -> Path:
    """Write a model folder; with several shards, tensors go round robin and an index is written."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        save_file(tensors, folder / "model.safetensors")
        return folder
    names = [f"model-{n + 1:05d}-of-{shards:05d}.safetensors" for n in range(shards)]
    weight_map = {tensor: names[i % shards] for i, tensor in enumerate(tensors)}
    for name in names:
        save_file({t: v for t, v in tensors.items() if weight_map[t] == name}, folder / name)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def write_raw(path: Path, tensors: dict[str, tuple[str, list[int], int]]) -> Path:
    """Write a file of zeros with element types that NumPy has not: name to (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, nbytes) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + nbytes]}
        offset += nbytes
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(offset))
    return path


def trio(root: Path, layers: int = 4, **more: Any) -> tuple[Path, Path, Path]:
    """Write a base and two fine-tunes."""
    a, b, c = (
        write(root / name, llama(layers, seed=seed, **more), llama_config(layers))
        for seed, name in enumerate("ABC")
    )
    return a, b, c


def plan_of(text: str, out: Path | None = None, **options: Any) -> Plan:
    return build_plan(loads(text)[-1], out, **options)


def job_of(plan: Plan, name: str) -> Job:
    return next(job for job in plan.jobs if job.name == name)


def linear(*models: Path, more: str = "") -> str:
    listed = "\n".join(f"- {{model: {model}, parameters: {{weight: 1.0}}}}" for model in models)
    return f"merge_method: linear\nmodels:\n{listed}\n{more}"
