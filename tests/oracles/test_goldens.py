"""TIES' oracle against vectors that published implementations gave: three models of ten numbers, base 0."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oracles import ties

if TYPE_CHECKING:
    from pathlib import Path

X = [0.9, -0.1, 0.4, -0.7, 0, 0.3, -0.2, 0.05, 0.6, -0.5]
Y = [-0.8, 0.2, 0.5, 0.6, 0.1, -0.3, -0.25, 0, -0.6, 0.45]
Z = [0.1, 0.3, -0.9, 0.2, -0.4, 0.35, 0.15, -0.55, 0.65, 0.05]

HALF = {"density": 0.5}
CASES: list[tuple[str, dict[str, Any], list[float]]] = [
    ("peft", HALF, [0.9, 0, 0.45, -0.7, -0.4, 0.35, 0, -0.55, 0.625, -0.5]),
    ("peft", HALF | {"vote": "frequency"}, [0.9, 0, 0.45, 0.6, -0.4, 0.35, 0, -0.55, 0.625, 0.45]),
    ("peft", HALF | {"weight": [1, 0.5, 2]}, [0.9, 0, 0.325, -0.7, -0.8, 0.7, 0, -1.1, 0.95, -0.5]),
    ("peft", {"density": 1.0}, [0.5, 0.25, 0.45, 0.4, -0.4, 0.325, -0.225, -0.55, 0.625, -0.5]),
    ("reference", HALF, [0.9, 0.3, -0.9, -0.7, -0.4, 0.325, 0, -0.55, 0.625, -0.5]),
    ("reference", HALF | {"aggregate": "sum"}, [0.9, 0.3, -0.9, -0.7, -0.4, 0.65, 0, -0.55, 1.25, -0.5]),
    ("reference", HALF | {"aggregate": "max"}, [0.9, 0.3, 0, -0.7, -0.4, 0.35, 0, -0.55, 0.65, -0.5]),
    ("mergekit", HALF, [0.9, 0, 0.45, -0.7, -0.4, 0.35, 0, -0.55, 0.625, -0.5]),
    ("mergekit", HALF | {"weight": [1, 0.5, 2]}, [0.9, 0, -0.9, -0.7, -0.4, 0.35, 0, -0.55, 1.9 / 3, -0.5]),
    (
        "mergekit",
        HALF | {"weight": [1, 0.5, 2], "normalize": False},
        [0.9, 0, -1.8, -0.7, -0.8, 0.7, 0, -1.1, 1.9, -0.5],
    ),
]


def oracle(vectors: list[list[float]], variant: str, density: float, **options: Any) -> list[float]:
    models = [{"w": np.array(v, np.float32)} for v in vectors]
    weight = options.pop("weight", [1.0] * len(models))
    merged = ties.merge(
        {"w": np.zeros(len(vectors[0]), np.float32)},
        models,
        weight=weight,
        density=[density] * len(models),
        variant=variant,
        **options,
    )
    return list(merged["w"].value)


@pytest.mark.parametrize(("variant", "options", "want"), CASES)
def test_three_models(variant: str, options: dict[str, Any], want: list[float]) -> None:
    assert oracle([X, Y, Z], variant, **options) == pytest.approx(want, abs=1e-6)


A, B = [1.0, -1.0, 2.0, 0.0], [-1.0, 1.0, 3.0, 0.0]


@pytest.mark.parametrize(
    ("variant", "sign", "want"),
    [
        ("peft", 1, [1, 1, 2.5, 0]),
        ("reference", 1, [1, 1, 2.5, 0]),
        ("peft", -1, [1, 1, -2.5, 0]),
        ("reference", -1, [-1, -1, -2.5, 0]),
        ("paper", 1, [0, 0, 2.5, 0]),
    ],
)
def test_cancelling_votes(variant: str, sign: int, want: list[float]) -> None:
    vectors = [[sign * x for x in v] for v in (A, B)]
    assert oracle(vectors, variant, 1.0) == want


@pytest.mark.parametrize(
    ("weight", "normalize", "want"),
    [
        ([1, 1], True, [1, -2, 3, 5, 3, 0.15]),
        ([1, 0.2], True, [1, -4 / 3, 7 / 3, 5, 3, 0.7 / 6]),
        ([0.5, 0.5], False, [0.5, -2, 3, 2.5, 1.5, 0.15]),
    ],
)
def test_mergekit_at_full_density(weight: list[float], normalize: bool, want: list[float]) -> None:
    vectors = [[1, -1, 2, 0, 3, 0.1], [-1, -3, 4, 5, 0, 0.2]]
    assert oracle(vectors, "mergekit", 1.0, weight=weight, normalize=normalize) == pytest.approx(
        want, rel=1e-6
    )


def test_negative_weight_as_mergekit_has_it() -> None:
    assert oracle([[1.0], [-1.0]], "mergekit", 1.0, weight=[1, -0.5]) == [3.0]


def test_knots_reference_code(shared: Path) -> None:
    """The published TIES of KnOTS on task vectors: a trim over three modules, with equals."""
    fixture = json.loads((shared / "fixtures" / "knots_reference.json").read_text())
    models = [
        {name: np.array(f["B"], np.float32) @ np.array(f["A"], np.float32) for name, f in task.items()}
        for task in fixture["inputs"]
    ]
    base = {name: np.zeros_like(delta) for name, delta in models[0].items()}
    cases = [case for case in fixture["cases"] if case["cfg"]["representation"] == "vector"]
    assert len(cases) == 6
    for case in cases:
        cfg = case["cfg"]
        merged = ties.merge(
            base,
            models,
            weight=[1.0] * 4,
            density=[cfg["topK"] / 100] * 4,
            variant="reference",
            lambda_=cfg["scaling_coeffs"],
            aggregate=cfg["merging_type"],
        )
        for name in base:
            want = np.array(
                case["merged"][name.replace(".weight", "") if name not in case["merged"] else name]
            )
            np.testing.assert_allclose(merged[name + ""].value, want, rtol=1e-5, atol=1e-6)
