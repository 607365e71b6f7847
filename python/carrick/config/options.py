"""Settings → numbers: what each tensor of the output is merged with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from carrick.config.document import Document, Slice, Source
    from carrick.config.location import Location
    from carrick.config.settings import Settings
    from carrick.methods import Parameter, Value


@dataclass(frozen=True, slots=True)
class Position:
    """A tensor's place in the output: the part that it belongs to, and how far along its layers it lies.

    `t` runs from 0 to 1. What precedes the layers (embeddings) lies at 0, what follows them (final norm,
    head) at 1, so that a gradient's first element meets the embeddings and its last one the head.
    """

    slice_index: int
    t: float

    @classmethod
    def before(cls, slice_index: int = 0) -> Position:
        """Return the place before the layers."""
        return cls(slice_index, 0.0)

    @classmethod
    def layer(cls, slice_index: int, layer: int, layers: int) -> Position:
        """Return the place of a layer, counted from 0 inside its slice; the only layer of a slice lies at 1.

        Examples
        --------
        >>> Position.layer(0, 8, 33).t
        0.25
        """
        return cls(slice_index, layer / (layers - 1) if layers > 1 else 1.0)

    @classmethod
    def after(cls, slice_index: int = -1) -> Position:
        """Return the place after the layers."""
        return cls(slice_index, 1.0)


@dataclass(frozen=True, slots=True)
class TensorOptions:
    """The values for one tensor: those for all models, and those of each merged model in the part's order."""

    options: dict[str, Value]
    parameters: tuple[dict[str, Value], ...]


class Options:
    """Resolves a document's settings tensor by tensor.

    A written value comes before the chosen variant's, and that before the table's default. Of written values
    the nearest level comes first: model, slice, document; where no filter of a level fits the tensor's name,
    the next level decides.
    """

    def __init__(self, document: Document) -> None:
        self._document = document
        method = document.method
        self._defaults = _defaults(document)
        self._shared = method.scoped("global")
        self._own = method.scoped("model")
        self._dithered = {"density", "epsilon"} <= {parameter.name for parameter in self._own}
        self.merge = merge_options(document)

    def for_tensor(
        self, output_name: str, position: Position, input_names: Sequence[str | None] | None = None
    ) -> TensorOptions:
        """Return the complete values for one tensor.

        Parameters
        ----------
        output_name
            The tensor's name in the output; filters of values for all models look at it.
        position
            Where in the layers it lies.
        input_names
            Its name in each merged model, in the part's order; filters of a model's values look at these.
            None: as in the output.

        Raises
        ------
        ConfigError
            A required value is given only for other tensors, or DELLA's probabilities would leave (0, 1).
        """
        part = self._document.parts[position.slice_index]
        levels = (part.parameters, self._document.parameters)
        options = dict(self.merge)
        for parameter in self._shared:
            options[parameter.name] = self._value(
                parameter, levels, output_name, position.t, where=part.where
            )
        names: Sequence[str | None] = input_names or [None] * len(part.merged)
        own = tuple(
            self._of_model(source, part, name or output_name, position.t)
            for source, name in zip(part.merged, names, strict=True)
        )
        return TensorOptions(options, own)

    def _of_model(self, source: Source, part: Slice, name: str, t: float) -> dict[str, Value]:
        levels = (source.parameters, part.parameters, self._document.parameters)
        values = {
            parameter.name: self._value(parameter, levels, name, t, where=source.where, model=str(source.ref))
            for parameter in self._own
        }
        if self._dithered:
            _check_probabilities(values, name, source)
        return values

    def _value(
        self,
        parameter: Parameter,
        levels: Iterable[Settings],
        name: str,
        t: float,
        *,
        where: Location,
        model: str = "",
    ) -> Value:
        for level in levels:
            setting = level.get(parameter.name)
            value = None if setting is None else setting.value(name, t)
            if value is not None:
                return value
        default = self._defaults.get(parameter.name)
        if default is None:
            of = f" of `{model}`" if model else ""
            raise where.error(
                f"no `{parameter.name}`{of} fits the tensor `{name}`; add a `value` without `filter` at the "
                "end of the list"
            )
        return default


def options_for(document: Document) -> Options:
    """Return what resolves a document's settings."""
    return Options(document)


def merge_options(document: Document) -> dict[str, Value]:
    """Return the values that hold for the whole merge."""
    values = _defaults(document)
    for name, setting in document.parameters.items():
        if setting.constant is not None:
            values[name] = setting.constant
    return {parameter.name: values[parameter.name] for parameter in document.method.scoped("merge")}


def _defaults(document: Document) -> dict[str, Value]:
    """Return the values of everything that is not written: the variant's, or else the table's."""
    method = document.method
    values = {
        parameter.name: parameter.default for parameter in method.parameters if parameter.default is not None
    }
    variant = None if document.variant is None else method.variant(document.variant)
    return values if variant is None else values | dict(variant.options)


def _check_probabilities(values: dict[str, Value], name: str, source: Source) -> None:
    """Raise where DELLA's probabilities, density ± epsilon, leave the open interval (0, 1)."""
    density, epsilon = float(values["density"]), float(values["epsilon"])
    if density in (0.0, 1.0) or (density - epsilon > 0.0 and density + epsilon < 1.0):
        return
    raise source.where.error(
        f"`density` {density:g} and `epsilon` {epsilon:g} of `{source.ref}` make probabilities from "
        f"{density - epsilon:g} to "
        f"{density + epsilon:g} for `{name}`; they have to lie between 0 and 1: give `epsilon` less than "
        f"{min(density, 1.0 - density):g}"
    )
