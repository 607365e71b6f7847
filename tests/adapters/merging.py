"""Adapters of random numbers for merges, and what a merged one means, read without Carrick."""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import carrick
from carrick.adapters.merging.engine import Engine
from carrick.adapters.merging.run import merge_document
from carrick.config import load
from oracles import knots, updates
from oracles.files import read_file, write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    Array = NDArray[Any]

PREFIX = "base_model.model."
FILE = "adapter_model.safetensors"
Q, V, UP, DOWN = (
    "model.layers.{}.self_attn.q_proj",
    "model.layers.{}.self_attn.v_proj",
    "model.layers.{}.mlp.up_proj",
    "model.layers.{}.mlp.down_proj",
)
SHAPES = {Q.format(0): (21, 17), V.format(0): (9, 17), DOWN.format(1): (17, 30)}


@dataclass
class Lora:
    """Factors (A, B) by module path; α by path, which is the rank (a scale of 1) where nothing is said."""

    factors: dict[str, tuple[Array, Array]]
    alphas: dict[str, float] = field(default_factory=dict)
    rslora: bool = False
    more: dict[str, Array] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def rank(self, path: str) -> int:
        return int(self.factors[path][0].shape[0])

    def scale(self, path: str) -> float:
        rank = self.rank(path)
        return float(self.alphas.get(path, rank) / (np.sqrt(rank) if self.rslora else rank))

    @property
    def config(self) -> dict[str, Any]:
        ranks = {path: self.rank(path) for path in self.factors}
        alphas = {path: self.alphas.get(path, rank) for path, rank in ranks.items()}
        return {
            "peft_type": "LORA",
            "r": max(ranks.values(), default=1),
            "lora_alpha": 1,
            "use_rslora": self.rslora,
            "rank_pattern": {re.escape(path): rank for path, rank in ranks.items()},
            "alpha_pattern": {re.escape(path): alpha for path, alpha in alphas.items()},
            "target_modules": sorted(ranks),
            **self.settings,
        }

    @property
    def tensors(self) -> dict[str, Array]:
        found = {PREFIX + key: tensor for key, tensor in self.more.items()}
        for path, (a, b) in self.factors.items():
            found[f"{PREFIX}{path}.lora_A.weight"] = a
            found[f"{PREFIX}{path}.lora_B.weight"] = b
        return found

    @property
    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        return self.tensors, self.config

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "adapter_config.json").write_text(json.dumps(self.config))
        write_file(folder / FILE, self.tensors)
        return folder

    def updates(self) -> dict[str, Array]:
        """ΔW = s·B·A by path."""
        return {
            path: self.scale(path) * (b.astype(np.float64) @ a.astype(np.float64))
            for path, (a, b) in self.factors.items()
        }


def lora(
    seed: int,
    shapes: Mapping[str, tuple[int, int]] = SHAPES,
    rank: int | Mapping[str, int] = 3,
    dtype: Any = np.float32,
    *,
    alpha: float | None = None,
    rslora: bool = False,
) -> Lora:
    """Random factors; rank-1 parts of sizes that differ, so that singular values do."""
    rng = np.random.default_rng([seed, 77])
    factors, alphas = {}, {}
    for path, (out, wide) in shapes.items():
        r = rank if isinstance(rank, int) else rank[path]
        sizes = np.exp(rng.uniform(-1.0, 1.0, r))
        a = rng.standard_normal((r, wide)) / np.sqrt(wide)
        b = rng.standard_normal((out, r)) * sizes / np.sqrt(out)
        factors[path] = (a.astype(dtype), b.astype(dtype))
        if alpha is not None:
            alphas[path] = alpha
    return Lora(factors, alphas, rslora)


def merged(adapters: Sequence[Lora], **options: Any) -> Any:
    """Merge adapters in memory: the report."""
    return carrick.adapters.merge([adapter.state for adapter in adapters], **options)


def meaning(tensors: Mapping[str, Array], config: Mapping[str, Any]) -> dict[str, Array]:
    """ΔW by path of a PEFT adapter, in float64, as (out, in)."""
    found = {}
    for key, tensor in tensors.items():
        match = re.fullmatch(r"base_model\.model\.(.+)\.lora_(?:embedding_)?A(?:\.weight)?", key)
        if match is None:
            continue
        partner = key.replace("lora_A.", "lora_B.").replace("lora_embedding_A", "lora_embedding_B")
        b, path = tensors[partner], match[1]
        product = b.astype(np.float64).reshape(len(b), -1) @ tensor.astype(np.float64).reshape(
            len(tensor), -1
        )
        found[path] = scale_of(config, path, len(tensor)) * product
    return found


def scale_of(config: Mapping[str, Any], path: str, rank: int) -> float:
    """α over the rank, by PEFT's rule: the first pattern that is the end of the path."""

    def of(pattern: Mapping[str, Any], otherwise: Any) -> Any:
        return next((v for k, v in pattern.items() if re.match(rf"(.*\.)?({k})$", path)), otherwise)

    assert of(config.get("rank_pattern") or {}, config["r"]) == rank, path
    alpha = of(config.get("alpha_pattern") or {}, config["lora_alpha"])
    return float(alpha / (np.sqrt(rank) if config.get("use_rslora") else rank))


def result(report: Any) -> dict[str, Array]:
    """ΔW of an adapter that was merged in memory or written to a folder."""
    tensors = report.state_dict if report.state_dict is not None else read_file(report.out / FILE)
    return meaning(tensors, report.config)


def distance(got: Mapping[str, Array], want: Mapping[str, Array]) -> float:
    """The largest relative Frobenius distance of a module; zero updates have to be zero exactly."""
    assert got.keys() == want.keys()
    worst = 0.0
    for path, matrix in want.items():
        norm = float(np.linalg.norm(matrix))
        away = float(np.linalg.norm(got[path] - matrix))
        assert norm > 0 or away == 0, path
        worst = max(worst, away / (norm or 1.0))
    return worst


def names(paths: Sequence[str] | Mapping[str, Any], letter: str = "A") -> dict[str, str]:
    """Names of the factor that holds merged coordinates."""
    return {path: f"{PREFIX}{path}.lora_{letter}.weight" for path in paths}


def paths_of(adapters: Sequence[Lora]) -> list[str]:
    return list(Counter(path for adapter in adapters for path in adapter.factors))


def knots_oracle(method: str, adapters: Sequence[Lora], **options: Any) -> dict[str, Array]:
    """What a KnOTS merge of these adapters must be (`method` without its prefix)."""
    letter = "A" if options.get("direction", "columns") == "columns" else "B"
    plain = {"linear": "task_arithmetic"}.get(method, method)
    return knots.merge(plain, [a.updates() for a in adapters], names(paths_of(adapters), letter), **options)


def oracle(method: str, adapters: Sequence[Lora], **options: Any) -> dict[str, Array]:
    """What a method on dense ΔW must be; masks hang on the name of the weight in the base."""
    weight_names = {path: f"{path}.weight" for path in paths_of(adapters)}
    own = [{weight_names[path]: matrix for path, matrix in a.updates().items()} for a in adapters]
    found = updates.merge(method, own, **options)
    return {path: found[name] for path, name in weight_names.items()}


def is_settled(method: str, adapters: Sequence[Lora], **options: Any) -> bool:
    """Whether no decision of a merge hangs on its last digits."""
    want = knots_oracle(method, adapters, **options)
    for seed in range(3):
        other = knots_oracle(method, adapters, noise=np.random.default_rng(seed), **options)
        if max(np.linalg.norm(other[p] - want[p]) / (np.linalg.norm(want[p]) or 1.0) for p in want) > 1e-3:
            return False
    return True


def merged_by_document(
    adapters: Sequence[Lora],
    content: Mapping[str, Any],
    parameters: Sequence[Mapping[str, Any]] | None = None,
    **options: Any,
) -> Any:
    """Merge adapters as a configuration says that has more in it than the function's arguments."""
    with tempfile.TemporaryDirectory() as root:
        folders = [adapter.write(Path(root, f"adapter-{i}")) for i, adapter in enumerate(adapters)]
        given = parameters or [{}] * len(folders)
        models = [
            {"model": str(f)} | ({"parameters": p} if p else {}) for f, p in zip(folders, given, strict=True)
        ]
        (document,) = load({**content, "models": models}, adapters=True)
        report = merge_document(document, Path(root, "out"), Engine(1 << 28, **options))
        report.state_dict = read_file(Path(root, "out", FILE))
    return report
