"""A base, two adapters and both as merged copies: what tests of models with adapters begin with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import load_file

import carrick
from adapters.handmade import DOWN, Q, adapter, base_tensors, folded, write_base
from carrick.plan.description import Description

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.plan import Job

ADAPTED = f"{Q.format(0)}.weight"
ALONE = f"{DOWN.format(1)}.weight"  # changed by the second adapter only
PLAIN = "model.norm.weight"


class World:
    """A base X, two adapters, and both as merged copies; all numbers exact in float32."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.base = base_tensors()
        self.x = write_base(root / "X", self.base)
        self.made = [adapter(1), adapter(2, *(Q.format(n) for n in range(2)), DOWN.format(1), rank=3)]
        self.adapters = [made.write(root / f"a{n}") for n, made in enumerate(self.made)]
        self.dense = [
            write_base(
                root / f"dense{n}",
                {name: tensor.astype(np.float32) for name, tensor in folded(self.base, (made, 1.0)).items()},
            )
            for n, made in enumerate(self.made)
        ]

    @property
    def put_on(self) -> list[str]:
        return [f"{self.x}+{adapter}" for adapter in self.adapters]

    def merge(self, config: dict[str, Any], name: str) -> dict[str, Any]:
        carrick.merge(config, self.root / name)
        merged: dict[str, Any] = load_file(self.root / name / "model.safetensors")
        return merged


def ties_of(world: World, models: list[Any], **more: Any) -> dict[str, Any]:
    parameters = {"weight": 1, "density": 0.5}
    return {
        "merge_method": "ties",
        "base_model": str(world.x),
        "models": [{"model": str(model), "parameters": parameters} for model in models],
        **more,
    }


def described(job: Job, number: int) -> Description:
    source = job.inputs[number].source
    assert isinstance(source, Description)
    return source
