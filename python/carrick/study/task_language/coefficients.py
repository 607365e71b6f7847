"""What the coefficients of CAT came to, from the records that its trainings left."""

from __future__ import annotations

import json
from statistics import fmean
from typing import TYPE_CHECKING, Any

from carrick.study.languages.training import ADAPTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from carrick.study.stage import Finished
    from carrick.study.task_language.models import Model


def coefficients(models: Sequence[Model], finished: Mapping[str, Finished]) -> list[dict[str, Any]]:
    """Return the learned coefficients of each mixture: mean and range over the modules, adapter by adapter.

    They are read from ``training.json`` in the stage's folder: the record holds every module's, in ``details``.
    """
    return [
        {
            "model": model.name,
            "family": model.family,
            "target": model.target,
            "seed": model.seed,
            "adapters": learned(_details(finished[model.name]), model.adapters),
        }
        for model in models
        if model.settings.get("method") == "mixture"
    ]


def _details(done: Finished) -> dict[str, Any]:
    record = json.loads((done.folder / ADAPTER / "training.json").read_text(encoding="utf-8"))
    details: dict[str, Any] = record["details"]
    return details


def learned(details: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return mean, smallest and largest coefficient of each adapter over the modules that it has.

    Parameters
    ----------
    details
        Of a mixture's record: ``adapters`` in their order, and ``coefficients``, module to adapter to number.
    names
        What the study calls these adapters, in the same order.

    Examples
    --------
    >>> table = {"q": {"adapter_1": 0.25, "adapter_2": 0.75}, "k": {"adapter_1": 0.75}}
    >>> details = {"adapters": [{"name": "adapter_1"}, {"name": "adapter_2"}], "coefficients": table}
    >>> learned(details, ["ta", "single"])[0]
    {'adapter': 'ta', 'mean': 0.5, 'low': 0.25, 'high': 0.75, 'modules': 2}
    """
    found = []
    for described, name in zip(details["adapters"], names, strict=True):
        own = described["name"]
        values = [row[own] for row in details["coefficients"].values() if own in row]
        found.append(
            {
                "adapter": name,
                "mean": fmean(values),
                "low": min(values),
                "high": max(values),
                "modules": len(values),
            }
        )
    return found
