"""The adapters of the study: how each is trained or merged, from which others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carrick.study.mlm.recipe import Mlm
    from carrick.study.task_language.recipe import TaskLanguage

    Plan = TaskLanguage | Mlm

Way = Literal["train", "merge", "none"]


@dataclass(frozen=True, slots=True)
class Model:
    """One adapter of the study.

    Attributes
    ----------
    name
        Its stage, such as ``de-align-zero-1-s0``.
    family
        What the reports call it, apart from language and seed: ``single``, ``mlm/zero/1``, …
    target
        Language that it is for; None for what all targets share.
    seed
        Seed of its training; None where nothing is trained.
    way
        Whether it is trained or merged.
    languages
        Languages of the rows that it is trained on.
    adapters
        Models it is made of, the task adapter first.
    settings
        What the training recipe or the merge holds beside that.
    scored
        Whether it is a row of the report; a language adapter alone is none.
    candidate
        Whether validation chooses among it and others: these are scored on validation rows too.
    """

    name: str
    family: str
    target: str | None
    seed: int | None
    way: Way
    languages: tuple[str, ...] = ()
    adapters: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    scored: bool = True
    candidate: bool = False


def models(recipe: Plan) -> list[Model]:
    """Return all adapters, each after those it is made of; the first is no adapter at all."""
    found = [Model("no-adapter", "zero_shot", None, None, "none")]
    for seed in recipe.seeds:
        settings = {"epochs": recipe.epochs.task}
        task = Model(
            f"ta-s{seed}", "task_adapter", None, seed, "train", (recipe.task_language,), settings=settings
        )
        found.append(task)
        for target in recipe.targets:
            found += [*_baselines(recipe, task.name, target, seed), *_mlm(recipe, task.name, target, seed)]
    return found


def _baselines(recipe: Plan, task: str, target: str, seed: int) -> Iterator[Model]:
    """Yield single-language and mixed training, and the merges of independently trained adapters."""
    both = (recipe.task_language, target)
    full = {"epochs": recipe.epochs.task}
    single = f"{target}-single-s{seed}"
    yield Model(single, "single", target, seed, "train", (target,), settings=full)
    yield Model(f"{target}-mixed-s{seed}", "mixed", target, seed, "train", both, settings=full)
    pair = (task, single)
    merges: dict[str, dict[str, Any]] = {
        "sum_average": {"method": "cat", "weights": [0.5, 0.5]},
        "sum_addition": {"method": "cat", "weights": [1.0, 1.0]},
        "ties": {"method": "ties", "density": recipe.ties_density},
        "dare": {"method": "dare_linear", "density": recipe.dare_density, "weights": [0.5, 0.5]},
    }
    for family, settings in merges.items():
        name = f"{target}-{family.replace('_', '-')}-s{seed}"
        yield Model(name, family, target, seed, "merge", adapters=pair, settings=settings)
    for kind in recipe.coefficients:
        mixture = {
            "method": "mixture",
            "coefficients": kind,
            "epochs": recipe.epochs.mixture,
            "learning_rate": recipe.mixture_learning_rate,
            "sample": recipe.sample,
        }
        name = f"{target}-cat-{kind}-s{seed}"
        yield Model(name, f"cat/{kind}", target, seed, "train", both, pair, mixture)


def _mlm(recipe: Plan, task: str, target: str, seed: int) -> Iterator[Model]:
    """Yield language adapters beside the frozen task adapter, their merges, and the aligned merges."""
    both = (recipe.task_language, target)
    for kind in recipe.initialisations:
        language = f"{target}-la-{kind}-s{seed}"
        settings: dict[str, Any] = {
            "method": "language_adapter",
            "initialisation": kind,
            "epochs": recipe.epochs.language,
        }
        if kind == "random":
            settings["sigma"] = recipe.sigma
        yield Model(language, f"la/{kind}", target, seed, "train", (target,), (task,), settings, scored=False)
        for weight in recipe.weights:
            weights = [weight, weight]
            merge = {"method": "cat", "weights": weights}
            yield Model(
                f"{target}-merge-{kind}-{weight:g}-s{seed}",
                f"merge/{kind}/{weight:g}",
                target,
                seed,
                "merge",
                adapters=(task, language),
                settings=merge,
                candidate=True,
            )
            align = {
                "method": "alignment",
                "weights": weights,
                "epochs": recipe.epochs.alignment,
                "sample": recipe.sample,
            }
            yield Model(
                f"{target}-align-{kind}-{weight:g}-s{seed}",
                f"mlm/{kind}/{weight:g}",
                target,
                seed,
                "train",
                both,
                (task, language),
                align,
                candidate=True,
            )
