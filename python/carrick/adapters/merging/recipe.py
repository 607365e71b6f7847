"""The numbers of a merge for each module: options of the method, weight and density of each adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick.config import Options, options_for
from carrick.knots.modules import OF_BASIS, plain_name

if TYPE_CHECKING:
    from carrick.adapters.merging.lineup import AdapterLineup, Entry
    from carrick.config import Document
    from carrick.config.adapter import AdapterOptions
    from carrick.methods import Value

# Below this a sum of weights counts as 1, as in the engine.
_CANCELLED = 1e-8


@dataclass(slots=True)
class ModuleOptions:
    """What holds for one module."""

    options: dict[str, Value]
    parameters: tuple[dict[str, Value], ...]  # of each adapter of the list

    @property
    def scale(self) -> float:
        """λ, over the sum of the weights where `normalize` divides."""
        scale = float(self.options.get("lambda", 1.0))
        if self.options.get("normalize"):
            total = sum(self.weights)
            scale /= total if abs(total) >= _CANCELLED else 1.0
        return scale

    @property
    def weights(self) -> list[float]:
        """Weight of each adapter."""
        return [float(values["weight"]) for values in self.parameters]


class Recipe:
    """A document's method and the values that it resolves to."""

    def __init__(self, document: Document, lineup: AdapterLineup) -> None:
        assert document.adapter is not None
        self.document = document
        self.adapter: AdapterOptions = document.adapter
        self.lineup = lineup
        self.method = document.method.name
        self._options: Options = options_for(document)
        # Type of decompositions, and of what is described by them: what is found in F64 lies in F64, which no
        # description in F32 may read. One module with factors in F64 decides for all.
        double = any(entry.is_double for entry in lineup.entries)
        self.precision = "float64" if double else self.adapter.precision

    @property
    def plain_method(self) -> str:
        """The engine's method: what a KnOTS method does once the updates have a basis."""
        return plain_name(self.method)

    @property
    def is_sum(self) -> bool:
        """Whether the result is a weighted sum of the updates, and nothing is dropped."""
        return self.method in {"cat", "linear", "task_arithmetic"}

    @property
    def truncates(self) -> bool:
        """Whether the result is cut down to a rank or a share of Σσ²."""
        return self.adapter.rank is not None or self.adapter.energy is not None

    @property
    def merge_options(self) -> dict[str, Value]:
        """Values for the whole merge."""
        return self._options.merge

    def of(self, entry: Entry) -> ModuleOptions:
        """Resolve the values for a module."""
        return self.named(entry.weight_name)

    def named(self, name: str) -> ModuleOptions:
        """Resolve the values for a tensor of the base by its name, which filters look at."""
        found = self._options.for_tensor(name, self.lineup.positions.of(name))
        options = {name: value for name, value in found.options.items() if name not in OF_BASIS}
        return ModuleOptions(options, found.parameters)

    def term_scales(self, entry: Entry) -> list[float]:
        """λ·w·s of each term: the factor of its B·A in the weighted sum."""
        values = self.of(entry)
        weights = values.weights
        return [values.scale * weights[term.index] * term.module.scale for term in entry.terms]
