"""TIES as a good engineer would write it in NumPy for a single use: tensor by tensor, float32, exact trim.

Each model is memory-mapped, each tensor merged at once, the result kept until it is saved.

    python demo/plain_numpy.py BASE TUNED… OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

WEIGHT = np.float32(0.5)
DENSITY = 0.5


def open_model(folder: Path) -> dict[str, np.ndarray]:
    """Map the tensors of a single-file bf16 model."""
    path = folder / "model.safetensors"
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    data = np.memmap(path, ml_dtypes.bfloat16, "r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            tensors[name] = data[begin // 2 : end // 2].reshape(entry["shape"])
    return tensors


def trim(delta: np.ndarray) -> np.ndarray:
    """Zero all but the largest entries of a task vector, in place; what equals the last one kept stays as well."""
    magnitude = np.abs(delta)
    dropped = delta.size - max(1, int(DENSITY * delta.size))
    delta[magnitude < np.partition(magnitude, dropped, axis=None)[dropped]] = 0
    return delta


def merge(base: np.ndarray, models: list[np.ndarray]) -> np.ndarray:
    """Trim, elect signs, average what agrees."""
    origin = base.astype(np.float32)
    weighted = [WEIGHT * trim(model.astype(np.float32) - origin) for model in models]
    sign = np.where(np.sum(weighted, axis=0) >= 0, np.float32(1), np.float32(-1))
    total, weights = np.zeros_like(origin), np.zeros_like(origin)
    for vector in weighted:
        agree = np.sign(vector) == sign
        total += vector * agree
        weights += WEIGHT * agree
    weights[weights == 0] = 1
    return (origin + total / weights).astype(base.dtype)


def main() -> None:
    """Merge the models named on the command line."""
    base, *models, out = map(Path, sys.argv[1:])
    origin, *tuned = (open_model(folder) for folder in (base, *models))
    merged = {name: merge(origin[name], [model[name] for model in tuned]) for name in origin}
    out.mkdir(parents=True)
    save_file(merged, out / "model.safetensors", metadata={"format": "pt"})


if __name__ == "__main__":
    main()
