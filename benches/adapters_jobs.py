"""The merges of adapters into adapters that are timed, and the table of all jobs: inputs, tools and checks of each."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import adapters_check as check
from benches.adapters import AdapterJob, Check, Prepared, Timed, Tool, Word, carrick, ceiling, script
from benches.adapters_inputs import (
    LLAMA_8B,
    PREFIX,
    Adapters,
    adapter_bytes,
    linear_modules,
    square_modules,
    write_adapters,
)
from benches.adapters_models import apply, extract, knots_models, models_bytes, sampled, scaled, scaled_rank
from benches.llama import LLAMA_1B, LLAMA_100M, Shape
from benches.verify import Checkpoint

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

DENSITY = 0.5
BF16 = 2
F32 = 4
# Factors of 8 significant bits: the product is off by two roundings of up to 2^-9, about 1.6e-3 in the norm.
BF16_PRODUCT = 4e-3
F32_PRODUCT = 1e-5
SQUARES = 16
NVIDIA = Path("/dev/nvidiactl")


def _cuda(timed: Timed, test: Check) -> list[Tool]:
    return [Tool("cuda", "Carrick, --device cuda", timed, test)] if NVIDIA.exists() else []


def knots(folder: Path, scale: float, *, count: int, rank: int, dense: bool) -> Prepared:
    """KnOTS-TIES of adapters, trimmed over the whole model."""
    shape = scaled(LLAMA_8B, scale)
    adapters = write_adapters(folder, linear_modules(shape), count, scaled_rank(rank, scale))
    words: list[Word] = [
        "adapters",
        "merge",
        *adapters.folders,
        "-o",
        "{out}",
        "-m",
        "knots_ties",
        "--density",
        DENSITY,
    ]

    @cache
    def expected() -> dict[str, Array]:
        oracle = check.Knots(adapters, DENSITY)
        return {path: oracle.update(path) for path in sampled(list(adapters.modules))}

    def error(out: Path) -> float:
        merged = check.AdapterFile(out)
        return max([check.relative_error(merged.update(path), want) for path, want in expected().items()])

    low_rank = script(folder, "adapters_torch.py", "low-rank", "--layers", 1, *adapters.folders)
    tools = [
        Tool("carrick", "Carrick", carrick(folder, *words), error),
        Tool(
            "torch", "the same low-rank way in torch", low_rank, factor=shape.layers, inside=True,
            rule=f"one layer of {shape.layers}; files neither read nor written",
        ),
    ]  # fmt: skip
    tools += [_dense(folder, shape, adapters)] if dense else []
    tools += _cuda(carrick(folder, *words, "--device", "cuda"), error)
    bytes_out = len(adapters.folders) * adapters.bytes_each
    return Prepared(tools, adapters.files, bytes_out, BF16_PRODUCT, facts=_facts(adapters))


def _dense(folder: Path, shape: Shape, adapters: Adapters) -> Tool:
    """The published code on one square module of half the width, whose time grows with the cube of it."""
    width = shape.hidden // 2
    count = len(adapters.folders)
    timed = script(folder, "adapters_torch.py", "dense-module", "--width", width, "--count", count,
                   "--rank", adapters.rank)  # fmt: skip
    return Tool(
        "dense",
        f"dense float64 SVD, one {shape.hidden} × {shape.hidden} module",
        timed,
        factor=8,
        rule=f"one module of width {width}, times 2³ for twice the width; Carrick: the mean of its modules",
        units=len(adapters.modules),
        inside=True,
        goal=5000,
    )


def _facts(adapters: Adapters) -> dict[str, Any]:
    return {
        "modules": len(adapters.modules),
        "adapters": len(adapters.folders),
        "rank": adapters.rank,
        "dtype": adapters.dtype,
    }


def cat(folder: Path, scale: float) -> Prepared:
    """The exact sum of five adapters."""
    shape = scaled(LLAMA_8B, scale)
    adapters = write_adapters(folder, linear_modules(shape), 5, scaled_rank(64, scale))
    wanted = {path: check.summed(adapters, path) for path in sampled(list(adapters.modules))}

    def error(out: Path) -> float:
        merged = check.AdapterFile(out)
        return max([check.relative_error(merged.update(path), want) for path, want in wanted.items()])

    words: list[Word] = ["adapters", "merge", *adapters.folders, "-o", "{out}"]
    peft = script(folder, "adapters_peft.py", "merge", "--type", "cat", "--layers", 1, *adapters.folders)
    bytes_out = len(adapters.folders) * adapters.bytes_each
    tools = [
        ceiling(adapters.files, bytes_out, goal=1.5),
        Tool("carrick", "Carrick", carrick(folder, *words), error),
        Tool(
            "peft", "PEFT cat, in memory", peft, factor=shape.layers, inside=True,
            rule=f"one layer of {shape.layers}; files neither read nor written",
        ),
    ]  # fmt: skip
    return Prepared(tools, adapters.files, bytes_out, F32_PRODUCT, facts=_facts(adapters))


def truncated(folder: Path, scale: float, *, peft_type: str, goal: float, most: float) -> Prepared:
    """Five adapters to one of rank 64, square modules in float32; PEFT does one of them."""
    width, rank = max(64, round(4096 * scale**0.5)), scaled_rank(64, scale)
    adapters = write_adapters(folder, square_modules(SQUARES, width), 5, rank, "F32")
    path = next(iter(adapters.modules))
    dense = peft_type == "ties_svd"
    want = check.ties_of_updates(adapters, path, DENSITY) if dense else check.summed(adapters, path)

    def error(out: Path) -> float:
        return check.relative_error(check.AdapterFile(out).update(path), want)

    def peft_error(out: Path) -> float:
        tensors = Checkpoint(out).tensors
        a, b = (tensors[f"{PREFIX}{path}.lora_{which}.weight"].astype("f8") for which in "AB")
        return check.product_error(a, b, want)

    method: list[Word] = ["-m", "ties", "--density", DENSITY] if dense else ["-m", "cat"]
    words: list[Word] = ["adapters", "merge", *adapters.folders, "-o", "{out}", *method, "--rank", rank]
    merge = script(
        folder, "adapters_peft.py", "merge", "--type", peft_type, "--rank", rank,
        "--layers", 1, "--out", "{out}/merged.safetensors", *adapters.folders,
    )  # fmt: skip
    tools = [
        Tool(
            "peft", f"PEFT {peft_type}, one {width} × {width} module", merge, peft_error,
            rule=f"Carrick: a {SQUARES}th of {SQUARES} such modules, files read and written",
            units=SQUARES, inside=True, goal=goal,
        ),
        Tool("carrick", "Carrick", carrick(folder, *words), error),
    ]  # fmt: skip
    if not dense:
        tools += _cuda(carrick(folder, *words, "--device", "cuda"), error)
    return Prepared(tools, adapters.files, adapters.bytes_each, 1.0, ("peft", most), _facts(adapters))


def _adapters_bytes(count: int, rank: int) -> int:
    """Return the disk that adapters of the 8B shape need: inputs and two results of all their ranks."""
    return 3 * count * adapter_bytes(linear_modules(LLAMA_8B), rank, "BF16")


def _squares_bytes() -> int:
    return 8 * adapter_bytes(square_modules(SQUARES, 4096), 64, "F32")


JOBS = {
    job.name: job
    for job in (
        AdapterJob(
            "knots_ties_r64",
            "KnOTS-TIES, 5 adapters r = 64, 8B shape",
            lambda scale: int(scale * _adapters_bytes(5, 64)),
            partial(knots, count=5, rank=64, dense=True),
            7.0,
        ),
        AdapterJob(
            "knots_ties_r16",
            "KnOTS-TIES, 3 adapters r = 16, 8B shape",
            lambda scale: int(scale * _adapters_bytes(3, 16)),
            partial(knots, count=3, rank=16, dense=False),
            0.4,
        ),
        AdapterJob("cat_r64", "exact sum, 5 adapters r = 64, 8B shape",
                   lambda scale: int(scale * _adapters_bytes(5, 64)), cat),
        AdapterJob(
            "ties_to_rank",
            f"TIES on ΔW to rank 64, 5 adapters r = 64, {SQUARES} modules",
            lambda scale: int(scale * _squares_bytes()),
            partial(truncated, peft_type="ties_svd", goal=50, most=1.01),
        ),
        AdapterJob(
            "sum_to_rank",
            f"best rank 64 of a sum, 5 adapters r = 64, {SQUARES} modules",
            lambda scale: int(scale * _squares_bytes()),
            partial(truncated, peft_type="svd", goal=400, most=1.0001),
        ),
        AdapterJob("apply_1b", "an adapter r = 16 applied, 1B shape", partial(models_bytes, LLAMA_1B, 3, BF16), apply),
        AdapterJob(
            "knots_ties_models",
            "KnOTS-TIES, base + 3 full fine-tunes, 0.1B shape, float32",
            partial(models_bytes, LLAMA_100M, 10, F32),
            knots_models,
        ),
        AdapterJob("extract_1b", "adapter r = 64 extracted, 1B shape",
                   partial(models_bytes, LLAMA_1B, 3, BF16), extract),
    )
}  # fmt: skip
