"""The modules of a merge, decomposed; their coordinates held while they fit, and made again where they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carrick.torch.device import default_memory, exact_arithmetic, in_batches
from carrick.torch.joint import Joint, joint_svd

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from carrick.torch.modules import Module
    from carrick.torch.options import Options


class Parts(NamedTuple):
    """The basis of a module and the coordinates of each adapter in it."""

    basis: torch.Tensor
    coordinates: list[torch.Tensor]

    @property
    def bytes(self) -> int:
        """Bytes of all of them."""
        return sum(x.numel() * x.element_size() for x in (self.basis, *self.coordinates))


def batches_by_shape(modules: Sequence[Module], memory: int) -> Iterator[tuple[list[int], int]]:
    """Yield the places of modules of equal shapes and ranks, and how many of them go together.

    Examples
    --------
    >>> import torch
    >>> from carrick.torch import Module, Term
    >>> wide, tall = Term(torch.ones(1, 9), torch.ones(2, 1)), Term(torch.ones(1, 2), torch.ones(9, 1))
    >>> modules = [Module.of(str(i), [term]) for i, term in enumerate([wide, tall, wide])]
    >>> [places for places, size in batches_by_shape(modules, 1 << 20)]
    [[0, 2], [1]]
    """
    groups: dict[tuple[int, int, tuple[int, ...]], list[int]] = {}
    for place, module in enumerate(modules):
        key = (module.out_features, module.in_features, module.ranks)
        groups.setdefault(key, []).append(place)
    for (outer, inner, ranks), places in groups.items():
        total = sum(ranks)
        # In float64: the factors as loaded, stacked and scaled, and about ten small matrices.
        need = 8 * (3 * (outer + inner) * total + 10 * total * total)
        yield places, max(1, memory // max(1, need))


class Prepared:
    """All modules of a joint merge.

    The wide products are made one module and one adapter at a time: a batched product may round differently with the
    size of the batch, and the passes of a trim must see the same bits.
    """

    def __init__(self, modules: Sequence[Module], options: Options, device: torch.device) -> None:
        self.modules = modules
        self.options = options
        self.device = device
        memory = options.memory if options.memory is not None else default_memory(device)
        self._batch_memory = memory // 2
        self._room = memory // 2
        self._held: dict[int, Parts] = {}
        self.joints: list[Joint] = self._decompose()

    def _decompose(self) -> list[Joint]:
        joints: dict[int, Joint] = {}
        for places, size in batches_by_shape(self.modules, self._batch_memory):
            some = [(place, self.modules[place]) for place in places]
            found = in_batches(some, size, self._decompose_batch, self.release)
            joints.update(zip(places, found, strict=True))
        return [joints[place] for place in range(len(self.modules))]

    def _decompose_batch(self, some: Sequence[tuple[int, Module]]) -> list[Joint]:
        options, modules = self.options, [module for _place, module in some]
        batch = [module.load(self.device) for module in modules]
        joints = joint_svd(
            batch,
            direction=options.direction,
            tolerance=options.tolerance,
            absolute_tolerance=options.absolute_tolerance,
            precision=options.precision,
            paths=[module.path for module in modules],
        )
        for (place, _module), joint, terms in zip(some, joints, batch, strict=True):
            with exact_arithmetic(self.device):
                # The factors are here now; once they do not fit, nothing more is held.
                if self._room > 0:
                    self._hold(place, Parts(joint.basis(terms), joint.coordinates(terms)))
        return joints

    def _hold(self, place: int, parts: Parts) -> None:
        before = self._held.pop(place, None)
        self._room += before.bytes if before is not None else 0
        if parts.bytes <= self._room:
            self._held[place] = parts
            self._room -= parts.bytes

    def release(self) -> bool:
        """Give back what is held and hold nothing more; say whether there was anything."""
        had = bool(self._held)
        self._held.clear()
        self._room = 0
        return had

    def forget(self, place: int) -> None:
        """Give back what is held of a module that is done with."""
        held = self._held.pop(place, None)
        self._room += held.bytes if held is not None else 0

    def vectors(self, place: int) -> list[torch.Tensor]:
        """Return the coordinates of each adapter in a module."""
        return self.parts(place).coordinates

    def entries(self, place: int) -> int:
        """Say how many coordinates each adapter has in a module."""
        module = self.modules[place]
        wide = module.in_features if self.options.direction == "columns" else module.out_features
        return self.joints[place].rank * wide

    def parts(self, place: int) -> Parts:
        """Return basis and coordinates of a module."""
        held = self._held.get(place)
        if held is not None:
            return held
        terms, joint = self.modules[place].load(self.device), self.joints[place]
        with exact_arithmetic(self.device):
            return Parts(joint.basis(terms), joint.coordinates(terms))
