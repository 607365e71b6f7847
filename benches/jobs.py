"""The merges that are timed: one row each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benches.llama import DTYPES, LLAMA_1B, Shape

if TYPE_CHECKING:
    from pathlib import Path

WEIGHT_AND_DENSITY = {"weight": 0.5, "density": 0.5}


@dataclass(frozen=True)
class Job:
    """One merge of a base and its fine-tunes.

    Attributes
    ----------
    options
        Parameters of the method; those of a model are the same for every model.
    mergekit_goal
        Speed-up over mergekit that the project set out for.
    ceiling_goal
        Time, in times of the ceiling's, that it set out for; None where no such goal was set.
    """

    name: str
    title: str
    method: str
    tuned: int
    options: dict[str, Any]
    mergekit_goal: float
    ceiling_goal: float | None
    dtype: str = "BF16"
    fraction: float = 1.0
    settings: dict[str, Any] = field(default_factory=dict)

    def shape(self, scale: float) -> Shape:
        """Return the model's shape at `scale` of the job's own size."""
        wanted = self.fraction * scale
        return LLAMA_1B if wanted == 1 else LLAMA_1B.scaled(wanted)

    def model_bytes(self, scale: float) -> int:
        """Return the size of one model."""
        return self.shape(scale).parameters * DTYPES[self.dtype].itemsize

    def disk_bytes(self, scale: float) -> int:
        """Return what inputs and two outputs need; the tools' outputs are deleted one by one."""
        return (self.tuned + 3) * self.model_bytes(scale)

    def write_config(self, path: Path, base: Path, models: list[Path]) -> None:
        """Write the YAML, which Carrick and mergekit read alike (JSON is YAML)."""
        per_model = {k: v for k, v in self.options.items() if k in {"weight", "density", "gamma", "epsilon"}}
        shared = {k: v for k, v in self.options.items() if k == "t"}
        listed = [base, *models] if self.method in {"linear", "slerp"} else models
        entries: list[dict[str, Any]] = [{"model": str(model), "parameters": per_model} for model in listed]
        if not per_model:
            entries = [{"model": str(model)} for model in listed]
        document: dict[str, Any] = {"merge_method": self.method, "models": entries}
        if self.method != "linear":
            document["base_model"] = str(base)
        if shared:
            document["parameters"] = shared
        document["dtype"] = {"BF16": "bfloat16", "F32": "float32"}[self.dtype]
        path.write_text(json.dumps(document, indent=2) + "\n")


JOBS = {
    job.name: job
    for job in (
        Job("linear", "linear, 3 models", "linear", 2, {"weight": 1.0}, 30, 1.15),
        Job("ties", "TIES, density 0.5, base + 3", "ties", 3, WEIGHT_AND_DENSITY, 200, 1.6),
        Job(
            "ties_f32", "TIES on float32, half the shape", "ties", 3, WEIGHT_AND_DENSITY, 100, 2.2, "F32", 0.5
        ),
        Job(
            "dare_ties",
            "DARE-TIES, density 0.5, base + 3",
            "dare_ties",
            3,
            WEIGHT_AND_DENSITY | {"seed": 0},
            120,
            1.4,
        ),
        Job("slerp", "SLERP, 2 models", "slerp", 1, {"t": 0.4}, 25, 2),
        Job("nuslerp", "NuSLERP, base + 2", "nuslerp", 2, {"weight": 0.5}, 18, 2),
        Job("model_stock", "Model Stock, base + 3", "model_stock", 3, {}, 20, 2),
        Job(
            "breadcrumbs_ties",
            "Breadcrumbs-TIES, base + 3",
            "breadcrumbs_ties",
            3,
            WEIGHT_AND_DENSITY | {"gamma": 0.01},
            100,
            None,
        ),
        Job(
            "della",
            "DELLA, base + 3",
            "della",
            3,
            WEIGHT_AND_DENSITY | {"epsilon": 0.15, "seed": 0},
            100,
            None,
        ),
    )
}
QUICK = ("linear", "ties", "dare_ties")
