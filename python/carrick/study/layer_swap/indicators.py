"""Merge indicators (XLT §5): whether an expert's own score predicts the score of what is merged from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.study.layer_swap.models import models
from carrick.study.layer_swap.rows import GERMAN_MATH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.layer_swap.recipe import LayerSwap
    from carrick.study.layer_swap.rows import Row

# (expert, its test): the paper compares the signal nearer to the expert's training with the target task.
SIGNALS = (("math", "math_en"), ("math", GERMAN_MATH), ("language", "general_de"), ("language", GERMAN_MATH))
WITHIN = "within a kind"
_FAMILIES = ("swap", "swap_partial", "swap_cpt")


def indicators(recipe: LayerSwap, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the points of all swaps of A, B and C, and the correlations, of all and within each kind.

    Both axes are losses in nats a token; runs of different seeds are points of their own.
    """
    losses = _losses(rows)
    points: list[dict[str, Any]] = []
    for model in models(recipe):
        if model.family in _FAMILIES and model.partition != "Z":
            experts = dict(zip(("math", "language"), model.experts, strict=True))
            point: dict[str, Any] = {
                "model": model.name,
                "kind": model.kind,
                "merged": losses[model.name][GERMAN_MATH],
            }
            for expert, test in SIGNALS:
                point[f"{expert}/{test}"] = losses[experts[expert]][test]
            points.append(point)
    by_kind: dict[str, list[dict[str, Any]]] = {
        kind: [point for point in points if point["kind"] == kind] for kind in recipe.kinds
    }
    groups: dict[str, list[dict[str, Any]]] = {
        "all": points,
        WITHIN: [one for own in by_kind.values() for one in centred(own)],
        **by_kind,
    }
    return {
        "points": points,
        "correlations": {
            group: {f"{e}/{t}": correlation(chosen, f"{e}/{t}") for e, t in SIGNALS}
            for group, chosen in groups.items()
        },
    }


def centred(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return points less their mean, so that what is left is not the difference between kinds.

    >>> centred([{"kind": "full", "merged": 1.0}, {"kind": "full", "merged": 3.0}])[1]
    {'kind': 'full', 'merged': 1.0}
    """
    numbers = [key for key, value in points[0].items() if isinstance(value, float)] if points else []
    means = {key: sum(point[key] for point in points) / len(points) for key in numbers}
    return [{**point, **{key: point[key] - means[key] for key in numbers}} for point in points]


def correlation(points: Sequence[Mapping[str, Any]], signal: str) -> dict[str, Any]:
    """Return Pearson's and Spearman's correlation of a signal with the merged loss; null where it is constant.

    Examples
    --------
    >>> points = [{"s": x, "merged": y} for x, y in ((1.0, 2.0), (2.0, 3.0), (3.0, 9.0))]
    >>> found = correlation(points, "s")
    >>> found["points"], found["values"], round(found["spearman"], 6)
    (3, 3, 1.0)
    """
    from scipy import stats  # noqa: PLC0415  (an extra)

    x = np.array([point[signal] for point in points])
    y = np.array([point["merged"] for point in points])
    values = len(set(x.tolist()))
    if values < 3 or len(set(y.tolist())) < 3:
        return {"points": len(points), "values": values, "pearson": None, "spearman": None}
    return {
        "points": len(points),
        "values": values,
        "pearson": float(stats.pearsonr(x, y).statistic),
        "spearman": float(stats.spearmanr(x, y).statistic),
    }


def _losses(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Return the loss in nats a token of every single model on every test."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        for place, name in enumerate(row.names):
            sums = {test: losses[place].sum(axis=0) for test, losses in row.losses.items()}
            found[name] = {test: float(total[0] / total[1]) for test, total in sums.items()}
    return found
