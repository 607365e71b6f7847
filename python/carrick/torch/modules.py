"""The modules of a merge: for each adapter the factors of ΔW = s·B·A, or nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors
import torch

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Term(NamedTuple):
    """One adapter's part of a module: ΔW = `scale`·`b`@`a`, `a` r × in, `b` out × r."""

    a: torch.Tensor
    b: torch.Tensor
    scale: float = 1.0


Load = Callable[[torch.device], Sequence[Term | None]]
"""Brings the terms of a module to a device, one for each adapter; None where an adapter does not have it."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module of the merge.

    Attributes
    ----------
    path
        Its name in the base model, such as ``model.layers.0.self_attn.q_proj``.
    out_features, in_features
        Shape of ΔW.
    ranks
        The rank of each adapter; 0 where an adapter does not have the module.
    load
        Brings the factors to a device; called once for each pass over the module.
    weights
        The adapters' weights in this module; those of the merge where absent.
    a_name, b_name
        The output's tensors. They order the entries of a trim over the whole model, and key random masks, of KnOTS;
        of the other methods, `weight_name` does.
    """

    path: str
    out_features: int
    in_features: int
    ranks: tuple[int, ...]
    load: Load
    weights: tuple[float, ...] | None = None
    a_name: str = ""
    b_name: str = ""

    def __post_init__(self) -> None:
        stem = f"base_model.model.{self.path}"
        object.__setattr__(self, "a_name", self.a_name or f"{stem}.lora_A.weight")
        object.__setattr__(self, "b_name", self.b_name or f"{stem}.lora_B.weight")

    @property
    def weight_name(self) -> str:
        """The weight in the base model."""
        return f"{self.path}.weight"

    @classmethod
    def of(cls, path: str, terms: Sequence[Term | None], **fields: Any) -> Module:
        """Make a module of tensors at hand.

        Raises
        ------
        CarrickError
            No adapter has the module, or shapes do not fit.

        Examples
        --------
        >>> Module.of("q_proj", [Term(torch.ones(2, 5), torch.ones(3, 2)), None]).ranks
        (2, 0)
        """
        shapes = [None if term is None else (tuple(term.a.shape), tuple(term.b.shape)) for term in terms]
        outer, inner, ranks = _shape(path, shapes)

        def load(device: torch.device) -> list[Term | None]:
            return [
                None if term is None else Term(term.a.to(device), term.b.to(device), term.scale)
                for term in terms
            ]

        return cls(path, outer, inner, ranks, load, **fields)


def _shape(
    path: str, shapes: Sequence[tuple[tuple[int, ...], tuple[int, ...]] | None]
) -> tuple[int, int, tuple[int, ...]]:
    """(out, in, ranks) of a module whose factors have these shapes."""
    found: tuple[int, int] | None = None
    for place, pair in enumerate(shapes):
        if pair is None:
            continue
        a, b = pair
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise CarrickError(
                f"{path}: A has the shape {a} and B {b} in adapter {place}; A is rank × in, B out × rank"
            )
        if found is not None and found != (b[0], a[1]):
            raise CarrickError(
                f"{path}: ΔW is {b[0]} × {a[1]} in adapter {place} and {found[0]} × {found[1]} before it; "
                "adapters of one base have equal shapes"
            )
        found = (b[0], a[1])
    if found is None:
        raise CarrickError(f"{path}: no adapter has this module; leave it out")
    return (*found, tuple(0 if pair is None else pair[0][0] for pair in shapes))


def refuse_special(terms: Sequence[Term | None], path: str) -> None:
    """Raise an error that names the first factor of a module with a NaN or an infinity."""
    for place, term in enumerate(terms):
        for name, factor in (("A", term.a), ("B", term.b)) if term is not None else ():
            if not bool(torch.isfinite(factor).all()):
                raise CarrickError(
                    f"{path}: {name} of adapter {place} holds NaN or infinity; "
                    "adapters are merged only when every entry is finite"
                )


class Place(NamedTuple):
    """Where a term lies: for each of its factors a safetensors file and the name in it."""

    a: tuple[str, str]
    b: tuple[str, str]
    scale: float = 1.0


def stored_module(
    path: str,
    places: Sequence[Place | None],
    files: Mapping[str, Any] | None = None,
    **fields: Any,
) -> Module:
    """Make a module whose factors are read from files when they are needed.

    Parameters
    ----------
    path
        The module's name.
    places
        Where each adapter's factors lie; None where an adapter does not have the module.
    files
        Open files (``safetensors.safe_open(file, "pt")``) by name, to be shared by the modules of a merge;
        others are opened here.
    **fields
        Other fields of `Module`.

    Raises
    ------
    CarrickError
        A tensor that is not there, a file that is not safetensors, shapes that do not fit.

    Examples
    --------
    >>> import tempfile, torch
    >>> from pathlib import Path
    >>> from safetensors.torch import save_file
    >>> from carrick.torch import Place, stored_module
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = str(Path(folder, "adapter_model.safetensors"))
    ...     save_file({"a": torch.ones(2, 5), "b": torch.ones(3, 2)}, file)
    ...     module = stored_module("q_proj", [Place((file, "a"), (file, "b"), scale=2.0), None])
    ...     [term.scale for term in module.load(torch.device("cpu")) if term is not None]
    [2.0]
    >>> module.out_features, module.in_features, module.ranks
    (3, 5, (2, 0))
    """
    handles: dict[str, Any] = dict(files or {})
    for place in places:
        for file, _name in () if place is None else (place.a, place.b):
            if file not in handles:
                handles[file] = _open(file)

    def shape(file: str, name: str) -> tuple[int, ...]:
        try:
            return _flat(handles[file].get_slice(name).get_shape())
        except safetensors.SafetensorError as error:
            raise CarrickError(f"{file}: {name}: {error}") from error

    shapes = [None if place is None else (shape(*place.a), shape(*place.b)) for place in places]
    outer, inner, ranks = _shape(path, shapes)

    def load(device: torch.device) -> list[Term | None]:
        def read(file: str, name: str) -> torch.Tensor:
            tensor: torch.Tensor = handles[file].get_tensor(name)
            return tensor.reshape(_flat(tensor.shape)).to(device)

        return [
            None if place is None else Term(read(*place.a), read(*place.b), place.scale) for place in places
        ]

    return Module(path, outer, inner, ranks, load, **fields)


def _flat(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of a factor as a matrix: those of convolutions have the kernel behind."""
    return tuple(shape) if len(shape) < 3 else (shape[0], math.prod(shape[1:]))


def _open(file: str) -> Any:
    try:
        return safetensors.safe_open(file, "pt")
    except safetensors.SafetensorError as error:
        raise CarrickError(f"{file}: not a safetensors file: {error}") from error
