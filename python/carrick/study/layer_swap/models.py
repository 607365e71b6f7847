"""The models of the study by name: what each is trained or merged from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carrick.study.layer_swap.recipe import Kind, LayerSwap, Simultaneous

PARTITIONS = ("A", "B", "C", "Z")
Way = Literal["sft", "simultaneous", "average", "ties", "swap", "reset"]


@dataclass(frozen=True, slots=True)
class Model:
    """One row of the study.

    Attributes
    ----------
    name
        Stage and row, such as ``full-swap-b-s0``.
    kind
        Full fine-tuning or LoRA.
    way
        How it is made.
    family
        Rows that the reports compare: ``swap``, ``partial_swap``, ``freeze``, …
    data
        Corpora it is trained on.
    experts
        Names of the models that it is merged from: the math expert, then the language expert.
    partition, side
        Partition, and which side of it trains (or stays, after a reset).
    steps_per_switch
        Of simultaneous training.
    rate_factor
        What the learning rate of its kind is multiplied by.
    embeddings
        Expert that gives the embeddings in a swap.
    """

    name: str
    kind: Kind
    way: Way
    family: str
    seed: int
    data: tuple[str, ...] = ()
    experts: tuple[str, ...] = ()
    partition: str | None = None
    side: Literal["task", "language"] | None = None
    steps_per_switch: int | None = None
    rate_factor: float = 1.0
    embeddings: Literal["task", "language", "average"] = "task"

    @property
    def trained(self) -> bool:
        """Whether it is trained, not merged."""
        return self.way in {"sft", "simultaneous"}


def models(recipe: LayerSwap) -> list[Model]:
    """Return every model of the study beside the base, experts before what is merged from them."""
    found: list[Model] = []
    for seed in recipe.seeds:
        for kind in recipe.kinds:
            found += models_of(recipe.simultaneous, kind, seed)
            found += _lower_rates(recipe, kind, seed)
            if kind == "full":
                found += _full_only(recipe, seed)
    return found


def models_of(simultaneous: Simultaneous, kind: Kind, seed: int) -> list[Model]:
    """Return the models that the paper has for a way of fine-tuning, and averages and TIES."""
    return [*_experts(kind, seed), *_merged(kind, seed), *_simultaneous(simultaneous, kind, seed)]


def named(kind: str, seed: int, *parts: object) -> str:
    """Return the name of a model.

    >>> named("lora", 0, "swap", "B")
    'lora-swap-b-s0'
    """
    return "-".join(str(part).lower() for part in (kind, *parts, f"s{seed}"))


def _experts(kind: Kind, seed: int) -> Iterator[Model]:
    """Yield full and partial SFT on each corpus, and on both mixed."""
    yield Model(named(kind, seed, "math"), kind, "sft", "math", seed, ("math",))
    yield Model(named(kind, seed, "language"), kind, "sft", "language", seed, ("german",))
    yield Model(named(kind, seed, "mixing"), kind, "sft", "mixing", seed, ("math", "german"))
    for p in PARTITIONS:
        name = named(kind, seed, "math", p)
        yield Model(name, kind, "sft", "math_partial", seed, ("math",), partition=p, side="task")
        name = named(kind, seed, "language", p)
        yield Model(name, kind, "sft", "language_partial", seed, ("german",), partition=p, side="language")


def _merged(kind: Kind, seed: int) -> Iterator[Model]:
    """Yield what needs no training: merges of the experts, and resets."""
    experts = (named(kind, seed, "math"), named(kind, seed, "language"))
    yield Model(named(kind, seed, "average"), kind, "average", "average", seed, experts=experts)
    yield Model(named(kind, seed, "ties"), kind, "ties", "ties", seed, experts=experts)
    for p in PARTITIONS:
        partial = (named(kind, seed, "math", p), named(kind, seed, "language", p))
        for family, pair in (("swap", experts), ("swap_partial", partial)):
            name = named(kind, seed, *family.split("_"), p)
            yield Model(name, kind, "swap", family, seed, experts=pair, partition=p)
        name = named(kind, seed, "reset", p)
        yield Model(name, kind, "reset", "reset", seed, experts=experts[:1], partition=p, side="task")


def _simultaneous(settings: Simultaneous, kind: Kind, seed: int) -> Iterator[Model]:
    for p in settings.partitions:
        ablated = p == settings.ablated and kind in settings.ablated_kinds
        for k in settings.steps_per_switch if ablated else settings.steps_per_switch[:1]:
            yield Model(
                named(kind, seed, "simultaneous", p, f"k{k}"),
                kind,
                "simultaneous",
                "simultaneous",
                seed,
                ("math", "german"),
                partition=p,
                steps_per_switch=k,
            )


def _lower_rates(recipe: LayerSwap, kind: Kind, seed: int) -> Iterator[Model]:
    """Yield simultaneous training of the ablated partition at lower learning rates; a family that is never chosen."""
    settings = recipe.simultaneous
    once = settings.model_copy(
        update={"partitions": [settings.ablated], "steps_per_switch": settings.steps_per_switch[:1]}
    )
    for factor in recipe.rate_factors:
        for model in _simultaneous(once, kind, seed):
            name = f"{model.name.removesuffix(f'-s{seed}')}-x{factor:g}-s{seed}"
            yield replace(model, name=name, family="simultaneous_rate", rate_factor=factor)


def _full_only(recipe: LayerSwap, seed: int) -> Iterator[Model]:
    """Yield swaps with the language expert's embeddings, and with continual pretraining as the language step."""
    math, language, running = (named("full", seed, *p) for p in (["math"], ["language"], ["language", "cpt"]))
    for p in PARTITIONS[:3]:
        name = named("full", seed, "swap", p, "embeddings")
        experts = (math, language)
        yield Model(
            name, "full", "swap", "swap_embeddings", seed, experts=experts, partition=p, embeddings="language"
        )
    if recipe.continual_pretraining:
        yield Model(running, "full", "sft", "language_cpt", seed, ("german_running",))
        for p in PARTITIONS[:3]:
            name = named("full", seed, "swap", "cpt", p)
            yield Model(name, "full", "swap", "swap_cpt", seed, experts=(math, running), partition=p)
