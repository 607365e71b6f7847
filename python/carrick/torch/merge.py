"""Merges of adapters on a device, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from carrick.errors import ConfigError
from carrick.torch.device import default_memory, exact_arithmetic, find_device, in_batches
from carrick.torch.keep import Keep
from carrick.torch.knots import knots
from carrick.torch.modules import Term
from carrick.torch.options import PLAIN, SUM
from carrick.torch.prepared import batches_by_shape
from carrick.torch.results import Diagnostics, Merged
from carrick.torch.truncate import truncated_batch
from carrick.torch.updates import merge_updates

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carrick.torch.modules import Module
    from carrick.torch.options import Options

_NO_WEIGHT = 1e-8


def merge_on_device(
    modules: Sequence[Module], options: Options, device: str | torch.device = "cpu"
) -> Iterator[Merged]:
    """Merge adapters on a device.

    Parameters
    ----------
    modules
        Every module that an adapter has, with the factors of each adapter or a way to load them.
    options
        The method and its choices, from `read_options`.
    device
        ``cpu``, ``cuda`` or ``cuda:1``.

    Yields
    ------
    The path, A, B and diagnostics of each module, on the device; ΔW = B·A, so that α = r. Float32, or float64 with
    ``precision="float64"``. Where memory does not suffice for a batch of modules, smaller ones are tried.

    Raises
    ------
    CarrickError
        NaN or infinity in a factor, shapes that do not fit, memory that does not suffice for one module.

    Examples
    --------
    >>> import torch
    >>> from carrick.torch import Module, Term, merge_on_device, read_options
    >>> en = Term(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0], [1.0]]))
    >>> de = Term(torch.tensor([[0.0, 4.0]]), torch.tensor([[1.0], [1.0]]))
    >>> for path, a, b, found in merge_on_device([Module.of("q_proj", [en, de])],
    ...                                          read_options("knots_ties", 2, density=1.0)):
    ...     print(path, found.rank, (b @ a).round(decimals=4).tolist())
    q_proj 1 [[1.0, 3.0], [1.0, 3.0]]
    """
    where = find_device(device)
    _check(modules, options)
    if options.method in SUM:
        return (_concatenated(module, options, where) for module in _in_order(modules))
    if options.method == "svd":
        return _truncated(_in_order(modules), options, where)
    if options.method in PLAIN:
        return merge_updates(modules, options, where)
    return knots(modules, options, where)


def _in_order(modules: Sequence[Module]) -> list[Module]:
    return sorted(modules, key=lambda module: module.a_name.encode())


def _check(modules: Sequence[Module], options: Options) -> None:
    """Refuses modules that do not go together."""
    if not modules:
        raise ConfigError("there is no module to merge")
    seen: set[str] = set()
    count = len(options.weights)
    for module in modules:
        if module.path in seen:
            raise ConfigError(f"{module.path}: listed twice; list each module once")
        seen.add(module.path)
        for what, numbers in (("adapters", module.ranks), ("weights", module.weights)):
            if numbers is not None and len(numbers) != count:
                raise ConfigError(
                    f"{module.path}: {len(numbers)} {what}, where the merge has {count} adapters; "
                    "give one for each, None for an adapter without this module"
                )


def _factors(module: Module, options: Options) -> list[float]:
    """Return what multiplies each adapter's ΔW in a plain sum."""
    weights = module.weights or options.weights
    total = sum(weights)
    divisor = total if options.normalize and abs(total) >= _NO_WEIGHT else 1.0
    return [options.lambda_ * weight / divisor for weight in weights]


def _concatenated(module: Module, options: Options, device: torch.device) -> Merged:
    """Σ w·s·B·A as B = [B₁ B₂ …] and A = [w₁s₁A₁; w₂s₂A₂; …]: exact, and no decomposition."""
    dtype = torch.float64 if options.precision == "float64" else torch.float32
    with exact_arithmetic(device):
        terms = [
            (term, factor)
            for term, factor in zip(module.load(device), _factors(module, options), strict=True)
            if term is not None
        ]
        a = torch.cat(
            [(term.a.to(torch.float64) * (term.scale * factor)).to(dtype) for term, factor in terms]
        )
        b = torch.cat([term.b.to(dtype) for term, _factor in terms], dim=1)
    return Merged(module.path, a, b, Diagnostics(a.shape[0], (), 1.0, "none"))


def _truncated(modules: Sequence[Module], options: Options, device: torch.device) -> Iterator[Merged]:
    """Yield the best approximations of Σ w·s·B·A, modules of equal shapes together."""
    memory = options.memory if options.memory is not None else default_memory(device)

    def work(some: Sequence[Module]) -> list[Merged]:
        batch = [_weighted(module, options, device) for module in some]
        return truncated_batch(
            batch,
            Keep(options.rank, options.energy),
            tolerance=options.tolerance,
            absolute_tolerance=options.absolute_tolerance,
            precision=options.precision,
            paths=[module.path for module in some],
        )

    for places, size in batches_by_shape(modules, memory // 2):
        yield from in_batches([modules[place] for place in places], size, work, lambda: False)


def _weighted(module: Module, options: Options, device: torch.device) -> list[Term | None]:
    """Return the terms of a module with the weights in their scales."""
    return [
        None if term is None else Term(term.a, term.b, term.scale * factor)
        for term, factor in zip(module.load(device), _factors(module, options), strict=True)
    ]
