"""KnOTS: the coordinates of all adapters in a shared basis of each module are merged in place of ΔW.

Stoica et al., "Model merging with SVD to tie the Knots" (arXiv 2410.19735). The result is U·X, X merged of the
Σ·Vᵢᵀ: an adapter of a rank of at most Σ rᵢ, exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch

from carrick.torch import consensus
from carrick.torch.device import exact_arithmetic, in_batches
from carrick.torch.modules import Term
from carrick.torch.prepared import Prepared
from carrick.torch.random_mask import keep_mask
from carrick.torch.results import Diagnostics, Merged
from carrick.torch.threshold import Count, Cutoff, Trim, find_cutoffs
from carrick.torch.truncate import truncated, zero_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from carrick.torch.modules import Module
    from carrick.torch.options import Options

Result = TypeVar("Result")

_NO_NORM = 1e-7
"""An L1 norm below this rescales nothing."""


def knots(modules: Sequence[Module], options: Options, device: torch.device) -> Iterator[Merged]:
    """Merge modules by a ``knots_`` method; those whose tensors come first in byte order first.

    Parameters
    ----------
    modules
        All modules of the merge: a trim and a majority range over them.
    options
        The method and its choices.
    device
        Where the work is done.

    Yields
    ------
    B = U and A = X of each module (with rows, A = Vᵀ and B = X).
    """
    merge = _Merge(modules, options, device)
    for place in merge.order:
        yield merge.merged(place)


class _Merge:
    """One merge: measuring passes when it is made, then a module at a time.

    Memory may run out anywhere; a step that is taken again must find everything as it was before.
    """

    def __init__(self, modules: Sequence[Module], options: Options, device: torch.device) -> None:
        self.options = options
        self.device = device
        self.names = [
            module.a_name if options.direction == "columns" else module.b_name for module in modules
        ]
        self.order = sorted(range(len(modules)), key=lambda place: self.names[place].encode())
        self.prepared = Prepared(modules, options, device)
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.cutoffs = self._cutoffs()
        self.majority = self._majority()
        self.trim = self._walk()

    def _patiently(self, place: int, work: Callable[[int], Result]) -> Result:
        """`work` on one module, and again with more room if memory ran out."""

        def one(_modules: Sequence[Module]) -> list[Result]:
            with exact_arithmetic(self.device):
                return [work(place)]

        return next(in_batches([self.prepared.modules[place]], 1, one, self.prepared.release))

    def _entries(self, place: int) -> int:
        module = self.prepared.modules[place]
        wide = module.in_features if self.options.direction == "columns" else module.out_features
        return self.prepared.joints[place].rank * wide

    def _cutoffs(self) -> list[Cutoff] | None:
        """Find what a trim over the whole model keeps."""
        if not self.options.trims or self.options.trim_scope != "model":
            return None
        entries = sum(self._entries(place) for place in self.order)

        def each(count: Count) -> Iterator[list[torch.Tensor]]:
            def work(place: int) -> list[torch.Tensor]:
                return count(self.prepared.parts(place).coordinates)

            return (self._patiently(place, work) for place in self.order)

        return find_cutoffs(each, entries, self.options, self.dtype)

    def _walk(self) -> Trim | None:
        return Trim(self.cutoffs) if self.cutoffs is not None else None

    def _majority(self) -> int:
        """Positive less negative votes of the whole model, where zero votes follow it."""
        options = self.options
        if not options.elects or options.zero_vote != "majority":
            return 0
        walk = self._walk()

        def work(place: int) -> tuple[torch.Tensor, Trim | None]:
            trim = walk.copy() if walk is not None else None
            xs = self._kept(place, self.prepared.parts(place).coordinates, trim)
            xs = consensus.ballots(xs, self._weights(place), options.vote)
            tally = consensus.votes(xs, options.vote)
            return (tally > 0).sum() - (tally < 0).sum(), trim

        signs = 0
        for place in self.order:
            found, walk = self._patiently(place, work)
            signs += int(found)
        return signs

    def _weights(self, place: int) -> tuple[float, ...]:
        return self.prepared.modules[place].weights or self.options.weights

    def _kept(self, place: int, xs: list[torch.Tensor], trim: Trim | None) -> list[torch.Tensor]:
        """Return what the trim or the random mask leaves of a module, rescaled."""
        options = self.options
        if options.trims and trim is None:
            cutoffs = find_cutoffs(lambda count: iter([count(xs)]), self._entries(place), options, self.dtype)
            trim = Trim(cutoffs)
        kept = []
        for adapter, x in enumerate(xs):
            left = x
            if options.trims and trim is not None:
                left = trim.keep(adapter, x)
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

    def merged(self, place: int) -> Merged:
        """Return the result of a module; modules are asked for in order."""
        merged, self.trim = self._patiently(place, self._merge_one)
        self.prepared.forget(place)
        return merged

    def _merge_one(self, place: int) -> tuple[Merged, Trim | None]:
        options, module, joint = self.options, self.prepared.modules[place], self.prepared.joints[place]
        trim = self.trim.copy() if self.trim is not None else None
        found = Diagnostics(joint.rank, joint.sigma, joint.min_gap, joint.route)
        parts = self.prepared.parts(place)
        if joint.rank == 0:
            a, b = zero_rank(module.in_features, module.out_features, parts.basis)
            return Merged(module.path, a, b, found), trim
        kept = self._kept(place, parts.coordinates, trim)
        x = consensus.merge(kept, self._weights(place), options, self.majority)
        a, b = (x, parts.basis) if options.direction == "columns" else (parts.basis, x)
        if options.rank is None or options.rank >= joint.rank:
            return Merged(module.path, a, b, found), trim
        best = truncated([Term(a, b)], options.rank, precision=options.precision, path=module.path)
        rank, error = best.diagnostics.rank, best.diagnostics.error
        return best._replace(diagnostics=replace(found, rank=rank, error=error)), trim
