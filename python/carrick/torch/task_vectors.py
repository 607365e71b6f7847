"""What the methods do to task vectors: entries are dropped, and what is left of all adapters is merged.

With KnOTS the task vectors are coordinates in a shared basis, with the plain methods they are the ΔW themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import torch

from carrick.torch import consensus
from carrick.torch.device import exact_arithmetic, in_batches
from carrick.torch.random_mask import keep_mask
from carrick.torch.threshold import count_equals, find_cutoffs, keep, shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carrick.torch.modules import Module
    from carrick.torch.options import Options
    from carrick.torch.threshold import Count, Cutoff

Result = TypeVar("Result")

_NO_NORM = 1e-7
"""An L1 norm below this rescales nothing."""


class Source(Protocol):
    """Where the task vectors of the modules come from; asked again, it gives the same bits."""

    def vectors(self, place: int) -> list[torch.Tensor]:
        """Return the matrices of a module, one for each adapter."""

    def entries(self, place: int) -> int:
        """Say how many entries each of them has."""

    def release(self) -> bool:
        """Give back the memory of what can be made again; say whether there was any."""


class TaskVectors:
    """The merge of all modules' task vectors: measuring passes when it is made, then a module at a time in any order.

    Parameters
    ----------
    modules
        All modules of the merge: a trim and a majority range over them.
    names
        Of the tensors that the result stands for: they key the masks, and order the entries of a trim.
    source
        Of the task vectors.
    options
        The method and its choices.
    device
        Where the work is done.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        names: Sequence[str],
        source: Source,
        options: Options,
        device: torch.device,
    ) -> None:
        self.modules = modules
        self.names = names
        self.source = source
        self.options = options
        self.device = device
        self.order = sorted(range(len(modules)), key=lambda place: names[place].encode())
        self.cutoffs = self._cutoffs()
        self.majority = self._majority()

    def patiently(self, place: int, work: Callable[[int], Result]) -> Result:
        """Do `work` on one module, and again with more room if memory ran out."""

        def one(_modules: Sequence[Module]) -> list[Result]:
            with exact_arithmetic(self.device):
                return [work(place)]

        return next(in_batches([self.modules[place]], 1, one, self.source.release))

    def merged(self, place: int, vectors: Sequence[torch.Tensor]) -> torch.Tensor:
        """Merge the task vectors of a module."""
        kept = self._kept(place, vectors)
        return consensus.merge(kept, self._weights(place), self.options, self.majority)

    def _each(self, work: Callable[[list[torch.Tensor]], Result]) -> Iterator[Result]:
        """Yield what `work` makes of the task vectors of each module, in their order."""
        for place in self.order:
            yield self.patiently(place, lambda here: work(self.source.vectors(here)))

    def _cutoffs(self) -> dict[int, list[Cutoff]] | None:
        """Find what a trim over the whole model keeps of each module."""
        options = self.options
        if not options.trims or options.trim_scope != "model":
            return None
        entries = sum(self.source.entries(place) for place in self.order)
        whole = find_cutoffs(self._each, entries, options)
        if all(cutoff.equals is None for cutoff in whole):
            return dict.fromkeys(self.order, whole)
        equals = self._each(lambda xs: [count_equals(x, cut) for x, cut in zip(xs, whole, strict=True)])
        return dict(zip(self.order, shares(whole, equals), strict=True))

    def _majority(self) -> int:
        """Positive less negative votes of the whole model, where zero votes follow it."""
        options = self.options
        if not options.elects or options.zero_vote != "majority":
            return 0

        def work(place: int) -> int:
            kept = self._kept(place, self.source.vectors(place))
            tally = consensus.votes(consensus.ballots(kept, self._weights(place), options.vote), options.vote)
            return int((tally > 0).sum() - (tally < 0).sum())

        return sum(self.patiently(place, work) for place in self.order)

    def _weights(self, place: int) -> tuple[float, ...]:
        return self.modules[place].weights or self.options.weights

    def _kept(self, place: int, xs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return what the trim or the random mask leaves of a module, rescaled."""
        options = self.options
        cutoffs: Sequence[Cutoff | None] = [None] * len(xs)
        if self.cutoffs is not None:
            cutoffs = self.cutoffs[place]
        elif options.trims:

            def each(count: Count) -> Iterator[list[torch.Tensor]]:
                return iter([count(xs)])

            cutoffs = find_cutoffs(each, self.source.entries(place), options)
        kept = []
        for adapter, (x, cutoff) in enumerate(zip(xs, cutoffs, strict=True)):
            left = x
            if cutoff is not None:
                left = keep(cutoff, x)
            elif options.drops:
                left = self._masked(place, adapter, x)
            kept.append(self._rescaled(adapter, x, left))
        return kept

    def _masked(self, place: int, adapter: int, x: torch.Tensor) -> torch.Tensor:
        density = self.options.density[adapter]
        if density >= 1:
            return x
        if density <= 0:
            return torch.zeros_like(x)
        mask = keep_mask(
            self.options.seed,
            adapter,
            self.names[place],
            x.numel(),
            probability=density,
            device=self.device,
        )
        return torch.where(mask.reshape(x.shape), x, 0)

    def _rescaled(self, adapter: int, whole: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        options, density = self.options, self.options.density[adapter]
        by_density = options.rescale == "density" or (options.rescale == "true" and options.drops)
        if by_density:
            return left * (1 / density) if 0 < density < 1 else left
        if options.rescale == "false":
            return left
        before, after = (float(x.abs().sum(dtype=torch.float64)) for x in (whole, left))
        return left if before < _NO_NORM or after < _NO_NORM else left * (before / after)
