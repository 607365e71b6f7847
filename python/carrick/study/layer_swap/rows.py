"""Rows of the study: the scores of the models that differ by nothing but the seed, with intervals over texts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from carrick.study.layer_swap.corpora import SELECTION, TESTS
from carrick.study.layer_swap.models import models
from carrick.study.layer_swap.scores import bits_per_byte, perplexity_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from carrick.study.layer_swap.recipe import LayerSwap
    from carrick.study.stage import Finished

# What the study is about: both tests of German math together.
GERMAN_MATH = "german_math"
_PARTS = ("msvamp_de", "mgsm_de")
SETS = (GERMAN_MATH, *TESTS, SELECTION)


@dataclass(frozen=True)
class Row:
    """Models of one making, over the seeds.

    Attributes
    ----------
    kind, family, partition, steps_per_switch, rate_factor
        What they have in common; the base's kind and family are ``base``.
    names
        The models, one a seed.
    losses
        By test set: loss, tokens and bytes of each text, shape (seeds, texts, 3).
    """

    kind: str
    family: str
    partition: str | None
    steps_per_switch: int | None
    rate_factor: float
    names: tuple[str, ...]
    losses: Mapping[str, NDArray[np.float64]]

    @property
    def key(self) -> str:
        """Name of the row, such as ``full/swap/B``."""
        parts = (
            self.kind,
            self.family,
            self.partition,
            self.steps_per_switch and f"k{self.steps_per_switch}",
            f"x{self.rate_factor:g}" if self.rate_factor != 1 else None,
        )
        return "/".join(part for part in parts if part)

    def mean(self, test: str) -> NDArray[np.float64]:
        """Loss, tokens and bytes of each text, the loss averaged over the seeds; shape (texts, 3)."""
        averaged: NDArray[np.float64] = self.losses[test].mean(axis=0)
        return averaged


def collect(recipe: LayerSwap, finished: Mapping[str, Finished]) -> list[Row]:
    """Read the scores of all models and put those of different seeds together; the base comes first."""
    groups: dict[tuple[Any, ...], list[str]] = {("base", "base", None, None, 1.0): ["base"]}
    for model in models(recipe):
        common = (model.kind, model.family, model.partition, model.steps_per_switch, model.rate_factor)
        groups.setdefault(common, []).append(model.name)
    return [
        Row(
            kind,
            family,
            partition,
            k,
            factor,
            tuple(names),
            _losses([finished[f"score-{n}"].folder for n in names]),
        )
        for (kind, family, partition, k, factor), names in groups.items()
    ]


def described(row: Row, seed: int, draws: int) -> dict[str, Any]:
    """Return a row's scores as plain data: perplexity and bits per byte with 95 % intervals over texts."""
    from carrick.evaluate.statistics import bootstrap_interval  # noqa: PLC0415  (scipy)

    scores = {}
    for test in SETS:
        losses = row.mean(test)
        low, high, _ = bootstrap_interval(perplexity_of, losses, seed=seed, draws=draws)
        scores[test] = {
            "perplexity": perplexity_of(losses),
            "low": low,
            "high": high,
            "bits_per_byte": bits_per_byte(losses),
            "per_seed": [perplexity_of(one) for one in row.losses[test]],
        }
    return {
        "row": row.key,
        "kind": row.kind,
        "family": row.family,
        "partition": row.partition,
        "steps_per_switch": row.steps_per_switch,
        "rate_factor": row.rate_factor,
        "scores": scores,
    }


def difference(first: Row, second: Row, test: str, seed: int, draws: int) -> dict[str, Any]:
    """Compare two rows on the same texts: loss of the second less that of the first, in nats a token.

    Negative: the second predicts the texts better.
    """
    from carrick.evaluate.statistics import paired_bootstrap  # noqa: PLC0415

    one, other = first.mean(test), second.mean(test)
    found = paired_bootstrap(
        lambda tokens, losses: float(losses.sum() / tokens.sum()),
        one[:, 0],
        other[:, 0],
        one[:, 1],
        seed=seed,
        draws=draws,
    )
    return {
        "first": first.key,
        "second": second.key,
        "test": test,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
    }


def find(rows: Iterable[Row], key: str) -> Row | None:
    """Return the row of a name, if the recipe has it."""
    return next((row for row in rows if row.key == key), None)


def _losses(folders: list[Path]) -> dict[str, NDArray[np.float64]]:
    found = [json.loads((folder / "texts.json").read_text()) for folder in folders]
    losses = {name: np.array([one[name] for one in found], dtype=np.float64) for name in found[0]}
    losses[GERMAN_MATH] = np.concatenate([losses[name] for name in _PARTS], axis=1)
    return losses
