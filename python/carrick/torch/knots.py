"""KnOTS: the coordinates of all adapters in a shared basis of each module are merged in place of ΔW.

Stoica et al., "Model merging with SVD to tie the Knots" (arXiv 2410.19735). The result is U·X, X merged of the
Σ·Vᵢᵀ: an adapter of a rank of at most Σ rᵢ, exact.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from carrick.torch.prepared import Prepared
from carrick.torch.results import Diagnostics, Merged
from carrick.torch.task_vectors import TaskVectors
from carrick.torch.truncate import truncated_dense, zero_rank

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import torch

    from carrick.torch.modules import Module
    from carrick.torch.options import Options


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
    prepared = Prepared(modules, options, device)
    names = [module.a_name if options.direction == "columns" else module.b_name for module in modules]
    vectors = TaskVectors(modules, names, prepared, options, device)
    for place in vectors.order:
        yield vectors.patiently(place, lambda here: _merged(here, prepared, vectors))
        prepared.forget(place)


def _merged(place: int, prepared: Prepared, vectors: TaskVectors) -> Merged:
    """Merge the coordinates of one module, and cut the result down where that is asked for."""
    options, module, joint = prepared.options, prepared.modules[place], prepared.joints[place]
    found = Diagnostics(joint.rank, joint.sigma, joint.min_gap, joint.route)
    parts = prepared.parts(place)
    if joint.rank == 0:
        a, b = zero_rank(module.in_features, module.out_features, parts.basis)
        return Merged(module.path, a, b, found)
    x = vectors.merged(place, parts.coordinates)
    by_columns = options.direction == "columns"
    if options.energy is None and options.rank is None:
        a, b = (x, parts.basis) if by_columns else (parts.basis, x)
        return Merged(module.path, a, b, found)
    # The basis has orthonormal columns: the best approximation of X gives that of U·X.
    (best,) = truncated_dense(
        x, options.rank, energy=options.energy, precision=options.precision, paths=[module.path]
    )
    a, b = (best.a, parts.basis @ best.b) if by_columns else (best.a @ parts.basis, best.b)
    rank, error = best.diagnostics.rank, best.diagnostics.error
    return Merged(module.path, a, b, replace(found, rank=rank, error=error))
