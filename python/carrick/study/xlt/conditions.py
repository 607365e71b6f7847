"""What is trained and merged for each model and language: the rows of the layer-swapping study, named apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick.study.layer_swap.models import Model, models_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from carrick.study.layer_swap.recipe import Kind
    from carrick.study.xlt.recipe import Xlt


@dataclass(frozen=True, slots=True)
class Condition:
    """A model and a language, by SFT or by continual pretraining.

    Attributes
    ----------
    base, language
        Which.
    continual
        Whether the data are running text (A.2).
    """

    base: str
    language: str
    continual: bool = False

    @property
    def id(self) -> str:
        """Name in stages and tables: ``qwen-bn-cpt``."""
        return f"{self.base}-{self.language}" + ("-cpt" if self.continual else "")

    def name(self, model: Model) -> str:
        """Name of a model's stage; what does not depend on the language is made once for all of them."""
        shared = "cpt" if self.continual else "any"
        scope = self.id if needs_language(model) else f"{self.base}-{shared}"
        return f"{scope}-{model.name}"


def conditions(recipe: Xlt) -> list[Condition]:
    """Return all models × languages, then the one of continual pretraining if there is one."""
    found = [Condition(base, language) for base in recipe.models for language in recipe.languages]
    continual = recipe.continual
    return found if continual is None else [*found, Condition(continual.model, continual.language, True)]


def needs_language(model: Model) -> bool:
    """Whether anything of a model depends on the language: not the math experts, frozen or reset."""
    return model.family not in {"math", "math_partial", "reset"}


def models(recipe: Xlt, condition: Condition) -> Iterator[Model]:
    """Return the rows of one condition; experts come before what is merged of them."""
    ablated = (condition.base, condition.language) == (recipe.ablation.model, recipe.ablation.language)
    steps = recipe.simultaneous.steps_per_switch
    simultaneous = recipe.simultaneous.model_copy(
        update={"steps_per_switch": steps if ablated and not condition.continual else steps[:1]}
    )
    kinds: list[Kind] = ["full"] if condition.continual else list(recipe.kinds)
    for seed in recipe.seeds:
        for kind in kinds:
            yield from models_of(simultaneous, kind, seed)
