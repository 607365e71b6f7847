"""LoRA adapters with random weights for Llama-shaped models, and a tuned model whose update has a decaying spectrum.

Every factor is drawn by a generator keyed by (seed, adapter, tensor), so that nothing depends on the threads.
"""

from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from benches.llama import DTYPES, Shape, header_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    Array = np.ndarray[Any, Any]

LLAMA_8B = Shape(32, 4096, 14336, 32, 8, 128, 128256)
FILE = "adapter_model.safetensors"
PREFIX = "base_model.model."
SPREAD = 0.02
# The j-th direction of an adapter is smaller than the first by this power of j: trained adapters decay.
DECAY = -0.5
# What a fine-tune changes: directions that decay, over noise of full rank.
TUNED_RANK = 256
TUNED_SPREAD = 0.001
NOISE_SPREAD = 0.0003
Modules = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Adapters:
    """Adapters of one shape on disk."""

    folders: list[Path]
    modules: Modules
    rank: int
    dtype: str

    @property
    def files(self) -> list[Path]:
        """Return the weights of all adapters."""
        return [folder / FILE for folder in self.folders]

    @property
    def bytes_each(self) -> int:
        """Return the size of one adapter's tensors."""
        return adapter_bytes(self.modules, self.rank, self.dtype)


def adapter_bytes(modules: Modules, rank: int, dtype: str) -> int:
    """Return the bytes that both factors of all modules take."""
    entries = sum(rank * (out + into) for out, into in modules.values())
    return entries * int(DTYPES[dtype].itemsize)


def linear_modules(shape: Shape) -> Modules:
    """Return (out, in) of every matrix within the layers, by path."""
    return {
        name.removesuffix(".weight"): (size[0], size[1])
        for name, size in shape.tensors().items()
        if ".layers." in name and len(size) == 2
    }


def square_modules(count: int, width: int) -> Modules:
    """Return `count` square modules, one to a layer."""
    return {f"model.layers.{layer}.self_attn.q_proj": (width, width) for layer in range(count)}


def _factors(modules: Modules, rank: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for path, (out, into) in modules.items():
        yield f"{PREFIX}{path}.lora_A.weight", (rank, into)
        yield f"{PREFIX}{path}.lora_B.weight", (out, rank)


def write_adapters(
    folder: Path,
    modules: Modules,
    count: int,
    rank: int,
    dtype: str = "BF16",
    *,
    seed: int = 0,
    threads: int = 2,
) -> Adapters:
    """Write `count` PEFT folders below `folder`, scale 1.

    Parameters
    ----------
    modules
        (out, in) by path.
    rank
        Rank and alpha of all modules.
    dtype
        safetensors' name of the element type.
    """
    shapes = dict(_factors(modules, rank))
    start, offsets, size = header_bytes({name: tuple(shape) for name, shape in shapes.items()}, dtype)
    folders = [folder / f"adapter-{number + 1}" for number in range(count)]
    decay = np.arange(1, rank + 1, dtype=np.float32) ** np.float32(DECAY)

    def fill(number: int) -> None:
        folders[number].mkdir(parents=True)
        descriptor = os.open(folders[number] / FILE, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            os.pwrite(descriptor, start, 0)
            os.truncate(descriptor, size)
            for tensor, (name, shape) in enumerate(shapes.items()):
                draw = np.random.default_rng([seed, number, tensor])
                values = draw.standard_normal(shape, dtype=np.float32) * np.float32(SPREAD)
                if ".lora_A." in name:
                    values *= decay[:, None]
                os.pwrite(descriptor, values.astype(DTYPES[dtype]).tobytes(), offsets[name])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        (folders[number] / "adapter_config.json").write_text(json.dumps(_config(modules, rank), indent=2))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(fill, range(count)))
    return Adapters(folders, modules, rank, dtype)


def _config(modules: Modules, rank: int) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": "base",
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": sorted({path.rpartition(".")[2] for path in modules}),
    }


def write_tuned(base: Path, out: Path, shape: Shape, dtype: str = "BF16", *, seed: int = 1) -> None:
    """Copy a one-file model and change every matrix within its layers."""
    out.mkdir(parents=True)
    for source in base.iterdir():
        shutil.copyfile(source, out / source.name)
    _, offsets, _ = header_bytes(shape.tensors(), dtype)
    element = DTYPES[dtype]
    with (out / "model.safetensors").open("r+b") as file:
        for tensor, (path, (rows, columns)) in enumerate(linear_modules(shape).items()):
            draw = np.random.default_rng([seed, tensor])
            place = offsets[f"{path}.weight"]
            file.seek(place)
            old = np.frombuffer(file.read(rows * columns * element.itemsize), element).reshape(rows, columns)
            new = (old.astype(np.float32) + _update(draw, rows, columns)).astype(element)
            file.seek(place)
            file.write(new.tobytes())
        file.flush()
        os.fsync(file.fileno())


def _update(draw: np.random.Generator, rows: int, columns: int) -> Array:
    """Return an update of decaying singular values over noise."""
    rank = min(TUNED_RANK, rows, columns)
    left = draw.standard_normal((rows, rank), dtype=np.float32)
    right = draw.standard_normal((rank, columns), dtype=np.float32)
    decay = np.arange(1, rank + 1, dtype=np.float32) ** np.float32(DECAY)
    decay *= np.float32(TUNED_SPREAD / np.linalg.norm(decay))
    update = (left * decay) @ right
    noise = draw.standard_normal((rows, columns), dtype=np.float32) * np.float32(NOISE_SPREAD)
    result: Array = update + noise
    return result
