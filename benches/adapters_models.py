"""Jobs with whole models among their inputs: an adapter applied or extracted, KnOTS of full fine-tunes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from benches import adapters_check as check
from benches.adapters import Prepared, Tool, carrick, ceiling, command, script, whole_process
from benches.adapters_inputs import linear_modules, write_adapters, write_tuned
from benches.contenders import PROGRAMS
from benches.llama import LLAMA_1B, LLAMA_100M, Shape, write_config, write_family
from benches.measure import run
from benches.verify import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from benches.adapters import Check, Word

    Array = np.ndarray[Any, Any]

DENSITY = 0.5
# One rounding of each weight to 8 significant bits.
BF16_WEIGHT = 2e-3
# Of an update that is a difference of float32 weights fifty times its size.
F32_UPDATE = 1e-4
# What an extraction leaves out is decided by the spectrum, so that only the ratio of two errors tells anything.
ANY_ERROR = 1.0


def models_bytes(shape: Shape, count: int, itemsize: int, scale: float) -> int:
    """Return what `count` models need."""
    return round(count * shape.parameters * itemsize * min(1, scale * 1.2))


def scaled(shape: Shape, scale: float) -> Shape:
    """Return the shape, or a smaller one, of two layers."""
    if scale == 1:
        return shape
    return replace(shape.scaled(scale), layers=min(shape.layers, 2))


def scaled_rank(rank: int, scale: float) -> int:
    """Return a rank that shrinks as the widths do."""
    return max(2, round(rank * scale**0.5))


def sampled(paths: list[str]) -> list[str]:
    """Return a square module of the first layer and a flat one of a layer in the middle."""
    return [
        next(path for path in paths if path.endswith("q_proj")),
        next(path for path in paths[len(paths) // 2 :] if path.endswith("k_proj")),
    ]


def _file_bytes(model: Path) -> int:
    return sum(path.stat().st_size for path in model.glob("*.safetensors"))


def apply(folder: Path, scale: float) -> Prepared:
    """Fold an adapter of rank 16 into a 1B base."""
    shape = scaled(LLAMA_1B, scale)
    (base,) = write_family(folder, shape.tensors(), "BF16", 0)
    write_config([base], shape, "BF16")
    adapters = write_adapters(folder, linear_modules(shape), 1, scaled_rank(16, scale))
    (adapter,) = adapters.folders
    origin, update = Checkpoint(base).tensors, check.AdapterFile(adapter)

    def error(out: Path) -> float:
        merged = Checkpoint(out).tensors
        missing = sorted(set(origin) - set(merged))
        assert not missing, f"{out} lacks {missing[0]}"
        errors = []
        for path in sampled(list(adapters.modules)):
            want = origin[f"{path}.weight"].astype(np.float64) + update.update(path)
            errors.append(check.relative_error(merged[f"{path}.weight"].astype(np.float64), want))
        return max(errors)

    files = [*base.glob("*.safetensors"), *adapters.files]
    words: list[Word] = ["adapters", "apply", base, adapter, "-o", "{out}"]
    peft = whole_process(script(folder, "adapters_peft.py", "apply", base, adapter, "{out}"))
    tools = [
        ceiling(files, _file_bytes(base), goal=1.6),
        Tool("carrick", "Carrick", carrick(folder, *words), error),
        Tool("peft", "PEFT: load, merge_and_unload, save", peft, error, goal=5),
    ]
    facts = {"parameters": shape.parameters, "rank": adapters.rank, "dtype": "BF16"}
    return Prepared(tools, files, _file_bytes(base), BF16_WEIGHT, facts=facts)


def knots_models(folder: Path, scale: float) -> Prepared:
    """Merge three full fine-tunes in float32 by KnOTS-TIES; the published way does all of them, and is the oracle."""
    shape = scaled(LLAMA_100M, scale)
    base, *models = write_family(folder, shape.tensors(), "F32", 3)
    write_config([base, *models], shape, "F32")
    entries = [{"model": str(model), "parameters": {"weight": 1.0, "density": DENSITY}} for model in models]
    config = folder / "config.yml"
    document = {"merge_method": "knots_ties", "base_model": str(base), "models": entries, "dtype": "float32"}
    config.write_text(json.dumps(document, indent=2))
    expected = folder / "expected"
    dense = script(
        folder, "adapters_torch.py", "dense-models", "--out", expected / "updates.safetensors", base, *models
    )
    tools = [
        Tool("dense", "dense float64 SVD in torch", dense, inside=True, goal=20),
        Tool(
            "carrick",
            "Carrick",
            carrick(folder, "merge", config, "{out}"),
            _update_error(base, expected, lambda: dense(expected)),
        ),
    ]
    files = sorted(path for model in (base, *models) for path in model.glob("*.safetensors"))
    facts = {
        "parameters": shape.parameters,
        "models": len(models),
        "dtype": "F32",
        "planned_memory": planned_memory(config),
    }
    return Prepared(tools, files, _file_bytes(base), F32_UPDATE, facts=facts)


def planned_memory(config: Path) -> str:
    """Return what `carrick plan` says about memory."""
    text = run([str(PROGRAMS / "carrick"), "plan", str(config)]).output
    found = re.search(r"peak memory\s+(about [\d.,]+ \w+)", text)
    return found[1] if found else "not stated"


def _update_error(base: Path, expected: Path, make: Any) -> Check:
    """Return the check of a merged checkpoint's updates, all matrices together."""
    origin = Checkpoint(base).tensors

    def error(out: Path) -> float:
        if not expected.exists():
            make()
        merged = Checkpoint(out).tensors
        off = size = 0.0
        for name, update in Checkpoint(expected).tensors.items():
            got = merged[name].astype(np.float64) - origin[name].astype(np.float64)
            off += float(np.square(got - update).sum())
            size += float(np.square(update, dtype=np.float64).sum())
        return float((off / size) ** 0.5)

    return error


def extract(folder: Path, scale: float) -> Prepared:
    """Extract an adapter of rank 64 from a 1B model, whose updates decay over noise."""
    shape = scaled(LLAMA_1B, scale)
    (base,) = write_family(folder, shape.tensors(), "BF16", 0)
    write_config([base], shape, "BF16")
    tuned, rank = folder / "tuned", scaled_rank(64, scale)
    write_tuned(base, tuned, shape)
    origin, changed = Checkpoint(base).tensors, Checkpoint(tuned).tensors

    def error(out: Path) -> float:
        found = check.AdapterFile(out)
        errors = []
        for path in sampled(list(linear_modules(shape))):
            old, new = (tensors[f"{path}.weight"].astype(np.float64) for tensors in (origin, changed))
            errors.append(check.relative_error(found.update(path), new - old))
        return max(errors)

    mergekit: list[Word] = [
        PROGRAMS / "mergekit-extract-lora",
        "--model",
        tuned,
        "--base-model",
        base,
        "--out-path",
        "{out}",
    ]
    mergekit += ["--max-rank", rank, "--quiet", "--no-copy-tokenizer"]
    words: list[Word] = ["adapters", "extract", base, tuned, "-o", "{out}", "--rank", rank]
    tools = [
        Tool("mergekit", "mergekit-extract-lora", command(folder, *mergekit), error, goal=20),
        Tool("carrick", "Carrick", carrick(folder, *words), error),
    ]
    files = [path for model in (base, tuned) for path in model.glob("*.safetensors")]
    bytes_out = sum(rank * (out + into) for out, into in linear_modules(shape).values()) * 2
    facts = {"parameters": shape.parameters, "rank": rank, "dtype": "BF16"}
    return Prepared(tools, files, bytes_out, ANY_ERROR, ("mergekit", 1.01), facts)
