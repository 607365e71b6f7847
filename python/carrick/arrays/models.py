"""The methods on models themselves, on arrays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.arrays.job import complete, merge, run
from carrick.methods import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.arrays.buffers import Array


def linear(
    arrays: Sequence[Array],
    *,
    weights: float | Sequence[float] | None = None,
    normalize: bool = True,
    threads: int | None = None,
) -> Array:
    """Weighted mean of arrays, or their weighted sum with ``normalize=False`` (Wortsman et al., arXiv 2203.05482).

    Parameters
    ----------
    arrays
        n arrays of one shape.
    weights
        One number, or one for each array; 1 where absent.
    threads
        Threads to use; all processors where absent. The result does not depend on it.

    Returns
    -------
    An array of the type, element type and shape of the first one.

    Raises
    ------
    PlanError
        No arrays, unequal shapes, a type without arithmetic, a value out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.linear([np.float32([1, 2]), np.float32([3, 6])], weights=[3, 1])
    array([1.5, 3. ], dtype=float32)
    """
    return merge("linear", arrays, None, {"weight": weights}, {"normalize": normalize}, threads=threads)


def slerp(first: Array, second: Array, t: float, *, threads: int | None = None) -> Array:
    """Spherical interpolation from `first` (t = 0) to `second` (t = 1), each taken as one vector (Shoemake, 1985).

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.slerp(np.float32([1, 0]), np.float32([0, 1]), 0.5)
    array([0.70710677, 0.70710677], dtype=float32)
    """
    options = complete(load()["slerp"], {"t": t}, None)
    return run("slerp", options, first, [second], {}, threads=threads)


def nuslerp(
    arrays: Sequence[Array],
    *,
    weights: float | Sequence[float] | None = None,
    base: Array | None = None,
    flatten: bool = True,
    row_wise: bool = False,
    threads: int | None = None,
) -> Array:
    """SLERP of two arrays at t = w₁/(w₀+w₁), of their task vectors when `base` is given.

    Parameters
    ----------
    arrays, weights, threads
        As in `linear`; exactly two arrays.
    flatten
        Take an array as one vector; otherwise each vector along the last dimension (along the first with `row_wise`).

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.nuslerp([np.float32([[2, 0], [0, 1]]), np.float32([[0, 2], [0, 1]])], flatten=False).round(4)
    array([[1.4142, 1.4142],
           [0.    , 1.    ]], dtype=float32)
    """
    options = {"nuslerp_flatten": flatten, "nuslerp_row_wise": row_wise}
    return merge("nuslerp", arrays, base, {"weight": weights}, options, threads=threads)


def model_stock(
    arrays: Sequence[Array], base: Array, *, filter_wise: bool = False, threads: int | None = None
) -> Array:
    """Move from `base` to the mean of the arrays as far as the angles say (Jang et al., arXiv 2403.19522).

    Parameters
    ----------
    arrays
        At least two models.
    filter_wise
        Measure the angle in each row (the last dimension) instead of once.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.model_stock([np.float32([2, 0]), np.float32([2, 2])], np.float32([0, 0])).round(4)
    array([1.6569, 0.8284], dtype=float32)
    """
    return merge("model_stock", arrays, base, {}, {"filter_wise": filter_wise}, threads=threads)
