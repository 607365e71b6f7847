"""The steps that methods on task vectors are made of, one call each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from carrick.arrays.job import merge, run, spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.arrays.buffers import Array


def trim(
    array: Array,
    density: float,
    *,
    kept_count: Literal["at_least_one", "floor", "floor_plus_one"] = "floor",
    at_threshold: Literal["lowest_index", "all"] = "lowest_index",
    threads: int | None = None,
) -> Array:
    """Zero all but the int(density·n) entries of largest magnitude; the lowest flat indices win among equals.

    Parameters
    ----------
    kept_count
        ``floor``: int(d·n); ``at_least_one``: max(1, int(d·n)); ``floor_plus_one``: int(d·n)+1.
    at_threshold
        ``all`` keeps every entry as large as the last one kept.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.trim(np.float32([1, -3, 2, -2]), 0.5)
    array([ 0., -3.,  2.,  0.], dtype=float32)
    """
    options = {"kept_count": kept_count, "at_threshold": at_threshold}
    return merge("magnitude_prune", [array], None, {"density": density}, dict(options), threads=threads)


def drop_rescale(
    array: Array,
    density: float,
    *,
    seed: int = 0,
    index: int = 0,
    tensor: str = "",
    rescale: bool = True,
    threads: int | None = None,
) -> Array:
    """Keep each entry with probability `density`, and divide it by that: DARE's one step.

    Parameters
    ----------
    seed, index, tensor
        Key the mask: the seed of the merge, the model's place in the list without the base, the tensor's name.
    rescale
        Divide what is kept by `density`.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> dropped = arrays.drop_rescale(np.ones(8, np.float32), 0.5, seed=1)
    >>> set(dropped.tolist()) <= {0.0, 2.0}
    True
    """
    options = {"normalize": False, "lambda": 1.0, "rescale": "true" if rescale else "false"}
    numbers = {"weight": [1.0], "density": [float(density)]}
    return run(
        "dare_linear", options, None, [array], numbers, seed=seed, index=index, tensor=tensor, threads=threads
    )


def elect_sign(
    arrays: Sequence[Array],
    *,
    weights: float | Sequence[float] | None = None,
    vote: Literal["sum", "frequency"] = "sum",
    zero_vote: Literal["plus", "none"] = "plus",
    threads: int | None = None,
) -> Array:
    """Elect +1, −1 (or 0) in every place: the sign of Σ wᵢ·xᵢ, or of Σ sign(xᵢ) with ``vote="frequency"``.

    Parameters
    ----------
    weights
        One number, or one for each array; 1 where absent.
    zero_vote
        What a vote of exactly 0 elects: ``plus``, or ``none`` (0).

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.elect_sign([np.float32([3, -1, 1]), np.float32([-1, -1, -1])])
    array([ 1., -1.,  1.], dtype=float32)
    """
    options = {"weights": spread(weights, len(arrays), "weights"), "vote": vote, "zero_vote": zero_vote}
    return run("elect_sign", options, None, arrays, {}, threads=threads)


def disjoint_mean(
    arrays: Sequence[Array],
    signs: Array,
    *,
    weights: float | Sequence[float] | None = None,
    by_weight: bool = False,
    threads: int | None = None,
) -> Array:
    """Mean over the entries whose sign is the elected one: Σ w·x / count, or / Σ w with `by_weight`.

    Parameters
    ----------
    signs
        As `elect_sign` returns them; where 0, the result is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> deltas = [np.float32([3, -1, 0]), np.float32([1, 2, -4])]
    >>> arrays.disjoint_mean(deltas, arrays.elect_sign(deltas))
    array([ 2.,  2., -4.], dtype=float32)
    """
    numbers = spread(weights, len(arrays), "weights")
    options = {"weights": numbers, "shares": numbers if by_weight else [1.0] * len(arrays)}
    return run("disjoint_mean", options, None, [*arrays, signs], {}, threads=threads)
