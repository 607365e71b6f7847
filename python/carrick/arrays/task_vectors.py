"""The methods on task vectors, on arrays in memory.

With `base`, the arrays are models and the result is a merged model; without it they are task vectors, and so is the
result. Arithmetic is float32 (float64 where an array is float64) with one rounding at the end, whatever the type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.arrays.job import merge

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.arrays.buffers import Array
    from carrick.methods import Value

    Numbers = float | Sequence[float]


def task_arithmetic(
    arrays: Sequence[Array],
    *,
    weights: Numbers | None = None,
    base: Array | None = None,
    normalize: bool = False,
    lambda_: float = 1.0,
    threads: int | None = None,
) -> Array:
    """Add weighted task vectors: [θ₀ +] λ·Σ wᵢ·δᵢ (Ilharco et al., arXiv 2212.04089).

    Parameters
    ----------
    arrays
        n arrays of one shape: task vectors, or models when `base` is given.
    weights
        One number, or one for each array; 1 where absent.
    base
        The model that task vectors are differences from.
    normalize
        Divide by the sum of the weights.
    lambda_
        Scale of the sum.
    threads
        Threads to use; all processors where absent. The result does not depend on it.

    Returns
    -------
    An array of the type, element type and shape of the base, or of the first array.

    Raises
    ------
    PlanError
        No arrays, unequal shapes, a type without arithmetic, a value out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.task_arithmetic([np.float32([1, 2]), np.float32([3, -1])], weights=[1, 0.5])
    array([2.5, 1.5], dtype=float32)
    """
    options: dict[str, Value | None] = {"normalize": normalize, "lambda": lambda_}
    return merge("task_arithmetic", arrays, base, {"weight": weights}, options, threads=threads)


def ties(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    weights: Numbers | None = None,
    base: Array | None = None,
    normalize: bool | None = None,
    lambda_: float = 1.0,
    variant: str = "mergekit",
    threads: int | None = None,
    **options: Value,
) -> Array:
    """Trim, elect signs, merge what agrees (Yadav et al., arXiv 2306.01708).

    Parameters
    ----------
    arrays, weights, base, lambda_, threads
        As in `task_arithmetic`.
    density
        Fraction of the largest entries that each array keeps, in [0, 1].
    normalize
        Divide by the sum of the agreeing weights (`aggregate="weighted_mean"`); true where absent.
    variant
        ``mergekit``, ``peft``, ``paper`` or ``reference``: how the published definitions differ is in docs/methods.md.
        An array is taken as the whole model where a variant ranges over it.
    **options
        Single options of the table, such as ``vote="frequency"`` or ``aggregate="max"``; they win over the variant.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.ties([np.float32([4, -1, 2, 0]), np.float32([-1, 3, 3, 1])], density=0.5)
    array([4. , 3. , 2.5, 0. ], dtype=float32)
    """
    settings: dict[str, Value | None] = {"normalize": normalize, "lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density}
    return merge("ties", arrays, base, numbers, settings, variant=variant, threads=threads)


def magnitude_prune(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    weights: Numbers | None = None,
    base: Array | None = None,
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """Keep the largest entries of each task vector and add them up; parameters as in `ties`.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.magnitude_prune([np.float32([4, -1, 2, 0]), np.float32([-1, 3, 3, 1])], density=0.5)
    array([4., 3., 5., 0.], dtype=float32)
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    return merge(
        "magnitude_prune", arrays, base, {"weight": weights, "density": density}, settings, threads=threads
    )


def dare_linear(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    weights: Numbers | None = None,
    base: Array | None = None,
    seed: int = 0,
    tensor: str = "",
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """Keep entries at random with probability `density`, divide by it, add up (Yu et al., arXiv 2311.03099).

    Parameters
    ----------
    arrays, weights, base, lambda_, threads, options
        As in `ties`.
    density
        Probability that an entry is kept, in [0, 1].
    seed, tensor
        Key the mask together with an array's place in the list: the mask of a checkpoint's tensor is that of its name.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> merged = arrays.dare_linear([np.ones(1000, np.float32)], density=0.25, seed=1)
    >>> sorted(set(merged.tolist()))
    [0.0, 4.0]
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density}
    return merge("dare_linear", arrays, base, numbers, settings, seed=seed, tensor=tensor, threads=threads)


def dare_ties(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    weights: Numbers | None = None,
    base: Array | None = None,
    seed: int = 0,
    tensor: str = "",
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """Drop at random as `dare_linear`, then elect signs as `ties`; there is no trim by magnitude.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.dare_ties([np.float32([1, -2]), np.float32([-3, -4])], density=1)
    array([-3., -6.], dtype=float32)
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density}
    return merge("dare_ties", arrays, base, numbers, settings, seed=seed, tensor=tensor, threads=threads)


def breadcrumbs(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    gamma: Numbers = 0.01,
    weights: Numbers | None = None,
    base: Array | None = None,
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """Drop the largest int(γ·n) and the smallest entries, keep int(d·n) (Davari & Belilovsky, arXiv 2312.06795).

    Parameters
    ----------
    arrays, density, weights, base, lambda_, threads, options
        As in `ties`.
    gamma
        Fraction of the largest entries that is dropped.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.breadcrumbs([np.float32([9, 1, 2, 3])], density=0.5, gamma=0.25)
    array([0., 0., 2., 3.], dtype=float32)
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density, "gamma": gamma}
    return merge("breadcrumbs", arrays, base, numbers, settings, threads=threads)


def breadcrumbs_ties(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    gamma: Numbers = 0.01,
    weights: Numbers | None = None,
    base: Array | None = None,
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """`breadcrumbs` with the sign election of `ties`.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.breadcrumbs_ties([np.float32([9, 1, 2, 3]), np.float32([1, -2, -4, 9])], density=0.5, gamma=0.25)
    array([ 0., -2., -4.,  3.], dtype=float32)
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density, "gamma": gamma}
    return merge("breadcrumbs_ties", arrays, base, numbers, settings, threads=threads)


def della_linear(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    epsilon: Numbers = 0.15,
    weights: Numbers | None = None,
    base: Array | None = None,
    seed: int = 0,
    tensor: str = "",
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """Drop at random, small entries of a row more often than large ones, and add up (Deep et al., arXiv 2406.11617).

    Parameters
    ----------
    arrays, density, weights, base, seed, tensor, lambda_, threads, options
        As in `dare_linear`.
    epsilon
        Half the spread of keep probabilities within a row (the last dimension): 0 < density − ε, density + ε < 1.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> merged = arrays.della_linear([np.ones((2, 3), np.float32)], density=0.5, epsilon=0, seed=3)
    >>> sorted(set(merged.ravel().tolist()))
    [0.0, 2.0]
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density, "epsilon": epsilon}
    return merge("della_linear", arrays, base, numbers, settings, seed=seed, tensor=tensor, threads=threads)


def della(
    arrays: Sequence[Array],
    *,
    density: Numbers = 1.0,
    epsilon: Numbers = 0.15,
    weights: Numbers | None = None,
    base: Array | None = None,
    seed: int = 0,
    tensor: str = "",
    lambda_: float = 1.0,
    threads: int | None = None,
    **options: Value,
) -> Array:
    """DELLA's drop followed by the sign election of `ties`; parameters as in `della_linear`.

    Examples
    --------
    >>> import numpy as np
    >>> from carrick import arrays
    >>> arrays.della([np.float32([1, -2]), np.float32([-3, -4])], density=1)
    array([-3., -3.], dtype=float32)
    """
    settings: dict[str, Value | None] = {"lambda": lambda_, **options}
    numbers = {"weight": weights, "density": density, "epsilon": epsilon}
    return merge("della", arrays, base, numbers, settings, seed=seed, tensor=tensor, threads=threads)
