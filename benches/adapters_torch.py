"""KnOTS-TIES as short torch scripts: as published, by a dense float64 SVD, and by the same low-rank way as Carrick.

    python benches/adapters_torch.py dense-module --width 2048 --count 5 --rank 64
    python benches/adapters_torch.py low-rank --layers 1 ADAPTER…
    python benches/adapters_torch.py dense-models --out FILE BASE MODEL…

Each prints JSON; `seconds` is the merge alone, without imports and reading of files.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

DENSITY = 0.5
# The published code keeps singular values above this.
ABSOLUTE_CUT = 1e-5
RELATIVE_CUT = 1e-6
LAYER = re.compile(r"\.layers\.(\d+)\.")
Tensors = list[torch.Tensor]


def thresholds(magnitudes: list[torch.Tensor], density: float) -> list[float]:
    """Return for each task the smallest magnitude that stays; the published code keeps one more than the fraction."""
    cuts = []
    for values in magnitudes:
        rank = values.numel() - int(values.numel() * density)
        cuts.append(values.kthvalue(max(rank, 1)).values.item() if density < 1 else 0.0)
    return cuts


def elected_mean(parts: Tensors, cuts: list[float]) -> torch.Tensor:
    """Trim, elect signs by the sum and take the mean of the entries that agree."""
    kept = torch.stack(
        [torch.where(part.abs() >= cut, part, 0.0) for part, cut in zip(parts, cuts, strict=True)]
    )
    positive = kept.sum(0) > 0
    agree = torch.where(positive, kept > 0, kept < 0)
    return (kept * agree).sum(0) / agree.sum(0).clamp_min(1)


def merge_parts(parts: list[Tensors]) -> Tensors:
    """Merge the coordinates of all modules, `parts[module][task]`, trimmed over the whole model."""
    tasks = range(len(parts[0]))
    cuts = thresholds([torch.cat([part[task].flatten().abs() for part in parts]) for task in tasks], DENSITY)
    return [elected_mean(part, cuts) for part in parts]


def dense_basis(updates: Tensors) -> tuple[torch.Tensor, Tensors]:
    """Return U and S·Vᵀ of each task in float32, by the SVD of the dense updates side by side in float64."""
    u, sigma, v = torch.linalg.svd(torch.cat(updates, 1).double(), full_matrices=False)
    kept = int((sigma > ABSOLUTE_CUT).sum())
    coordinates = (sigma[:kept, None] * v[:kept]).float()
    return u[:, :kept].float(), list(coordinates.chunk(len(updates), 1))


def low_rank_basis(factors: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, Tensors]:
    """Return the same from the factors: QR in float64, one small SVD, products in float32."""
    q, r_b = torch.linalg.qr(torch.cat([b for _, b in factors], 1).double())
    blocks = r_b.chunk(len(factors), 1)
    small = [
        block @ torch.linalg.qr(a.double().T, mode="r").R.T
        for block, (a, _) in zip(blocks, factors, strict=True)
    ]
    u, sigma, _ = torch.linalg.svd(torch.cat(small, 1), full_matrices=False)
    u = u[:, sigma > RELATIVE_CUT * sigma[0]]
    parts = [(u.T @ block).float() @ a.float() for block, (a, _) in zip(blocks, factors, strict=True)]
    return (q @ u).float(), parts


def dense_module(options: argparse.Namespace) -> dict[str, float]:
    """Time one square module, and one of half its width, which shows how the time grows."""
    half = _dense_seconds(options.width // 2, options)
    return {"half_width_seconds": half, "seconds": _dense_seconds(options.width, options)}


def _dense_seconds(width: int, options: argparse.Namespace) -> float:
    draw = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.randn(rows, columns, generator=draw) * 0.02

    rank = options.rank
    factors = [(matrix(rank, width), matrix(width, rank)) for _ in range(options.count)]
    start = time.perf_counter()
    u, parts = dense_basis([b @ a for a, b in factors])
    (merged,) = merge_parts([parts])
    update = u @ merged
    seconds = time.perf_counter() - start
    assert update.isfinite().all()
    return seconds


def low_rank(options: argparse.Namespace) -> dict[str, float]:
    """Time the modules of the first layers; factors are in memory before and after."""
    modules: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    for folder in options.paths:
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dict)
                found = LAYER.search(name)
                if found is None or int(found[1]) >= options.layers or ".lora_A." not in name:
                    continue
                pair = file.get_tensor(name), file.get_tensor(name.replace(".lora_A.", ".lora_B."))
                modules.setdefault(name, []).append(pair)
    start = time.perf_counter()
    bases, parts = zip(*(low_rank_basis(factors) for factors in modules.values()), strict=True)
    merged = merge_parts(list(parts))
    written = [(u.bfloat16(), x.bfloat16()) for u, x in zip(bases, merged, strict=True)]
    seconds = time.perf_counter() - start
    if options.out:
        save_file(
            {
                key: tensor.contiguous()
                for name, (u, x) in zip(modules, written, strict=True)
                for key, tensor in ((name, x), (name.replace(".lora_A.", ".lora_B."), u))
            },
            options.out,
        )
    return {"seconds": seconds, "modules": len(modules)}


def dense_models(options: argparse.Namespace) -> dict[str, float]:
    """Merge the layers' matrices of full fine-tunes and save the updates."""
    base, *models = [safe_open(path / "model.safetensors", "pt") for path in options.paths]
    keys = base.keys()
    names = [name for name in keys if LAYER.search(name) and len(base.get_slice(name).get_shape()) == 2]
    start = time.perf_counter()
    bases, parts = [], []
    for name in names:
        origin = base.get_tensor(name).float()
        u, coordinates = dense_basis([model.get_tensor(name).float() - origin for model in models])
        bases.append(u)
        parts.append(coordinates)
    merged = merge_parts(parts)
    updates = {name: u @ x for name, u, x in zip(names, bases, merged, strict=True)}
    seconds = time.perf_counter() - start
    save_file(updates, options.out)
    return {"seconds": seconds, "modules": len(names)}


def main() -> None:
    """Time what was asked for and print JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, function in (
        ("dense-module", dense_module),
        ("low-rank", low_rank),
        ("dense-models", dense_models),
    ):
        command = commands.add_parser(name)
        command.set_defaults(function=function)
        command.add_argument("--width", type=int, default=2048)
        command.add_argument("--count", type=int, default=5)
        command.add_argument("--rank", type=int, default=64)
        command.add_argument("--layers", type=int, default=1)
        command.add_argument("--out", type=Path)
        command.add_argument("paths", nargs="*", type=Path)
    options = parser.parse_args()
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        print(json.dumps(options.function(options)))


if __name__ == "__main__":
    main()
