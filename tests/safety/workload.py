"""Merges that cross every boundary: several tiles, odd sizes, several dtypes, whole-model statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from methods.case import Case
from oracles.dtypes import NUMPY

if TYPE_CHECKING:
    from methods.case import Model

SHAPES: dict[str, tuple[tuple[int, ...], str]] = {
    "a.large.weight": ((577, 1031), "BF16"),
    "b.flat.bias": ((300_017,), "F32"),
    "c.tiny": ((1,), "BF16"),
    "d.rows.weight": ((3, 77, 5), "F16"),
    "e.double": ((4099,), "F64"),
    "f.empty": ((0, 4), "F32"),
    "g.small.float8": ((31, 33), "F8_E4M3"),
    "h.wide.weight": ((7, 70_001), "BF16"),
    # In float64 the last bit of a sum shows in the output.
    "i.double.weight": ((401, 517), "F64"),
}


def model(seed: int, base: Model | None = None) -> Model:
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (shape, dtype) in SHAPES.items():
        x = rng.standard_normal(shape) * 0.05
        tensors[name] = (x if base is None else base[name].astype(np.float64) + 0.1 * x).astype(NUMPY[dtype])
    return tensors


def cases() -> dict[str, Case]:
    """One of each family, whole-model options among them."""
    base = model(0)
    rest = [model(seed, base) for seed in (1, 2, 3)]
    floats = {name for name, (_, dtype) in SHAPES.items() if dtype != "F64"}
    single = [{name: x for name, x in tensors.items() if name in floats} for tensors in (base, *rest)]
    parameters: list[dict[str, Any]] = [{"weight": w, "density": 0.4} for w in (0.5, -0.3, 1.0)]

    def task(method: str, options: dict[str, Any] | None = None, **extra: Any) -> Case:
        each = [{**p, **extra} for p in parameters]
        if method == "task_arithmetic":
            each = [{"weight": p["weight"]} for p in each]
        return Case(method, rest, base, each, options or {}, 42)

    weights = [{"weight": 0.4}, {"weight": 0.6}]
    return {
        "linear": Case("linear", rest, None, [{"weight": w} for w in (0.2, 0.3, 0.7)]),
        "task_arithmetic": task("task_arithmetic"),
        "ties": task("ties"),
        "ties_l1": task("ties", {"rescale": "l1"}),
        "ties_reference": Case("ties", single[1:], single[0], parameters, {"variant": "reference"}),
        "ties_paper": Case("ties", single[1:], single[0], parameters, {"variant": "paper"}),
        "dare_linear": task("dare_linear", {"rescale": "l1"}),
        "dare_ties": task("dare_ties"),
        "magnitude_prune": task("magnitude_prune"),
        "breadcrumbs_ties": task("breadcrumbs_ties", gamma=0.05),
        "della": task("della", epsilon=0.1),
        "della_l1": task("della", {"rescale": "l1"}, epsilon=0.1),
        "slerp": Case("slerp", rest[:1], base, options={"t": 0.3}),
        "nuslerp": Case("nuslerp", rest[:2], base, weights),
        "nuslerp_rows": Case("nuslerp", rest[:2], base, weights, {"nuslerp_flatten": False}),
        "nuslerp_columns": Case(
            "nuslerp", rest[:2], None, weights, {"nuslerp_flatten": False, "nuslerp_row_wise": True}
        ),
        "model_stock": Case("model_stock", rest, base),
        "model_stock_rows": Case("model_stock", rest, base, options={"filter_wise": True}),
    }
