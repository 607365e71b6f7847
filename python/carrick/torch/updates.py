"""The plain methods on ΔW = s·B·A, cut down to a rank: a batch of dense modules in memory, never more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from carrick.torch.device import default_memory, exact_arithmetic, in_batches
from carrick.torch.keep import Keep
from carrick.torch.modules import refuse_special
from carrick.torch.subspace import subspace_bytes
from carrick.torch.task_vectors import TaskVectors
from carrick.torch.truncate import approximated, iterated_rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from carrick.torch.modules import Module
    from carrick.torch.options import Options
    from carrick.torch.results import Merged


_MASKS = 1 << 28
"""Bytes that the counters of a random mask take while it is drawn, at the most."""


def merge_updates(modules: Sequence[Module], options: Options, device: torch.device) -> Iterator[Merged]:
    """Merge modules by a plain method, those of equal shapes together.

    Parameters
    ----------
    modules
        All modules of the merge: a trim and a majority may range over them.
    options
        The method and its choices.
    device
        Where the work is done.

    Yields
    ------
    The best factors of each module, of the stated rank or energy: B = U·Σ, A = Vᵀ.
    """
    memory = options.memory if options.memory is not None else default_memory(device)
    updates = _Updates(modules, options, device)
    vectors = TaskVectors(modules, [module.weight_name for module in modules], updates, options, device)
    keep = Keep(options.rank, options.energy)

    def work(some: Sequence[tuple[int, Module]]) -> list[Merged]:
        with exact_arithmetic(device):
            first = some[0][1]
            shape = (len(some), first.out_features, first.in_features)
            matrices = torch.empty(shape, dtype=updates.dtype, device=device)
            for matrix, (place, _module) in zip(matrices, some, strict=True):
                matrix.copy_(vectors.merged(place, updates.vectors(place)))
            return approximated(matrices, keep, [module.path for _place, module in some])

    for places, size in _batches(modules, options, updates.dtype, memory):
        yield from in_batches([(place, modules[place]) for place in places], size, work, lambda: False)


class _Updates:
    """The ΔW of the modules, made again each time they are asked for."""

    def __init__(self, modules: Sequence[Module], options: Options, device: torch.device) -> None:
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self._modules = modules
        self._device = device

    def vectors(self, place: int) -> list[torch.Tensor]:
        """Return ΔW of each adapter in a module; zeros where an adapter does not have it."""
        module = self._modules[place]
        terms = module.load(self._device)
        refuse_special(terms, module.path)
        found = []
        for term in terms:
            if term is None:
                shape = (module.out_features, module.in_features)
                found.append(torch.zeros(shape, dtype=self.dtype, device=self._device))
            else:
                found.append((term.b.to(self.dtype) @ term.a.to(self.dtype)).mul_(term.scale))
        return found

    def entries(self, place: int) -> int:
        """Say how many entries ΔW has in a module."""
        return self._modules[place].out_features * self._modules[place].in_features

    def release(self) -> bool:
        """Nothing is held."""
        return False


def _batches(
    modules: Sequence[Module], options: Options, dtype: torch.dtype, memory: int
) -> Iterator[tuple[list[int], int]]:
    """Yield the places of modules of equal shapes, and how many of them go together."""
    groups: dict[tuple[int, int], list[int]] = {}
    for place, module in enumerate(modules):
        groups.setdefault((module.out_features, module.in_features), []).append(place)
    keep = Keep(options.rank, options.energy)
    for (outer, inner), places in groups.items():
        matrix, small = outer * inner * dtype.itemsize, min(outer, inner)
        # What one module takes while it is merged: each ΔW, what is kept of it, and votes, sums and places.
        passing = (2 * len(options.weights) + 10) * matrix + (_MASKS if options.drops else 0)
        rank = iterated_rank(small, keep, dtype)
        if rank is not None:
            each = matrix + subspace_bytes(outer, inner, rank)
        else:
            # The factors of a batch are held until it is done: of all directions, where an energy may want them.
            each = matrix + min(keep.rank or small, small) * (outer + inner) * dtype.itemsize
            passing = max(passing, 24 * outer * inner + 40 * small * small)
        yield places, max(1, (memory - passing) // each)
