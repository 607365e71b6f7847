"""The options of a merge on a device, checked once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from carrick import methods
from carrick.config.adapter import default_variant, for_adapters
from carrick.errors import ConfigError
from carrick.suggestions import nearest
from carrick.torch.keep import Keep

SUM = ("cat", "linear", "task_arithmetic")
PLAIN = ("ties", "dare_linear", "dare_ties", "magnitude_prune")
"""Those on ΔW itself, whose result is not of low rank: it is cut down to one."""

METHODS = (
    *SUM,
    "svd",
    *PLAIN,
    "knots_linear",
    "knots_ties",
    "knots_dare_linear",
    "knots_dare_ties",
    "knots_magnitude_prune",
)

_TRIM = ("trim_scope", "kept_count", "at_threshold")
_CONSENSUS = ("vote", "zero_vote", "aggregate")
_DENSE = ("normalize", "lambda_", "rank", "energy", "precision", "memory")
_JOINT = (*_DENSE, "direction", "tolerance", "absolute_tolerance")
_TAKES: dict[str, tuple[str, ...]] = {
    "cat": ("normalize", "lambda_", "precision", "memory"),
    "linear": ("normalize", "lambda_", "precision", "memory"),
    "task_arithmetic": ("normalize", "lambda_", "precision", "memory"),
    "svd": tuple(name for name in _JOINT if name != "direction"),
    "ties": (*_DENSE, "density", "rescale", *_TRIM, *_CONSENSUS),
    "dare_linear": (*_DENSE, "density", "rescale", "seed"),
    "dare_ties": (*_DENSE, "density", "rescale", "seed", *_CONSENSUS),
    "magnitude_prune": (*_DENSE, "density", "rescale", *_TRIM),
    "knots_linear": _JOINT,
    "knots_ties": (*_JOINT, "density", "rescale", *_TRIM, *_CONSENSUS),
    "knots_dare_linear": (*_JOINT, "density", "rescale", "seed"),
    "knots_dare_ties": (*_JOINT, "density", "rescale", "seed", *_CONSENSUS),
    "knots_magnitude_prune": (*_JOINT, "density", "rescale", *_TRIM),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a merge does, every choice made; made by `read_options`.

    Attributes
    ----------
    method
        One of `METHODS`.
    weights, density
        A number for each adapter. Weights multiply what is left after the vote, and never enter the joint SVD;
        in ``svd``, ``cat``, ``linear`` and ``task_arithmetic`` they multiply ΔW.
    normalize
        Divide sums by Σ w, and a weighted mean by the Σ w that agrees.
    lambda_
        Scale of the result.
    rescale
        ``false``, ``true``, ``density`` or ``l1``, as in docs/methods.md.
    trim_scope, kept_count, at_threshold, vote, zero_vote, aggregate
        As in docs/methods.md.
    seed
        Of the random masks.
    rank
        Truncate each module to this rank; the exact rank where absent. The plain methods on ΔW need one, or an energy.
    energy
        Truncate each module to the rank that holds this share of its Σσ², in place of one rank for all.
    direction
        ``columns``: [ΔW₁ | ΔW₂ | …], a shared left basis. ``rows``: stacked, a shared right basis.
    tolerance
        Singular values up to this fraction of the largest count as zero.
    absolute_tolerance
        Singular values up to this value count as zero, whatever the largest.
    precision
        ``float32``: decompositions in float64, wide products and votes in float32. ``float64``: all of it.
    memory
        Bytes that intermediate results may take on the device.
    """

    method: str
    weights: tuple[float, ...]
    density: tuple[float, ...]
    normalize: bool = False
    lambda_: float = 1.0
    rescale: Literal["false", "true", "density", "l1"] = "false"
    trim_scope: Literal["model", "tensor"] = "model"
    kept_count: Literal["at_least_one", "floor", "floor_plus_one"] = "floor_plus_one"
    at_threshold: Literal["lowest_index", "all"] = "all"
    vote: Literal["weighted", "sum", "frequency"] = "sum"
    zero_vote: Literal["plus", "none", "majority"] = "majority"
    aggregate: Literal["weighted_mean", "mean", "sum", "max"] = "mean"
    seed: int = 0
    rank: int | None = None
    energy: float | None = None
    direction: Literal["columns", "rows"] = "columns"
    tolerance: float = 1e-6
    absolute_tolerance: float | None = None
    precision: Literal["float32", "float64"] = "float32"
    memory: int | None = None

    @property
    def trims(self) -> bool:
        """Whether entries are dropped by magnitude."""
        return self.method.removeprefix("knots_") in ("ties", "magnitude_prune")

    @property
    def drops(self) -> bool:
        """Whether entries are dropped at random."""
        return self.method.removeprefix("knots_") in ("dare_linear", "dare_ties")

    @property
    def elects(self) -> bool:
        """Whether signs are elected."""
        return self.method.removeprefix("knots_") in ("ties", "dare_ties")


_TYPES = get_type_hints(Options)


def read_options(
    method: str,
    adapters: int,
    *,
    weights: float | Sequence[float] | None = None,
    density: float | Sequence[float] | None = None,
    variant: str | None = None,
    **options: Any,
) -> Options:
    """Check the options of a merge and fill in the rest.

    Parameters
    ----------
    method
        ``cat``, ``linear``, ``task_arithmetic``, ``svd``; with a rank or an energy ``ties``, ``dare_linear``,
        ``dare_ties``, ``magnitude_prune``; ``knots_linear`` and these four behind ``knots_``.
    adapters
        How many there are.
    weights, density
        One number, or one for each adapter. Weights are 1 where absent; a method that drops entries requires
        a density.
    variant
        A published reading of TIES or DARE-TIES, a row of choices in docs/methods.md; single ones win over it. The
        default is ``reference`` for the ``knots_`` methods, ``peft`` for the others.
    **options
        Fields of `Options`.

    Raises
    ------
    ConfigError
        An option that is not known or not this method's, or a value out of range.

    Examples
    --------
    >>> read_options("knots_ties", 2, density=0.2).weights
    (1.0, 1.0)
    >>> read_options("knots_ties", 2, density=0.2, variant="paper").zero_vote
    'none'
    """
    if method not in METHODS:
        meant = (
            f"; did you mean `knots_{method}`?" if f"knots_{method}" in METHODS else nearest(method, METHODS)
        )
        raise ConfigError(f"method `{method}` is not one of {', '.join(METHODS)}{meant}")
    if adapters < 1:
        raise ConfigError("a merge needs at least one adapter")
    takes = _TAKES[method]
    for name in options:
        if name not in takes:
            known = (*takes, "weights", *(("variant",) if "vote" in takes else ()))
            raise ConfigError(f"`{method}` takes no option `{name}`{nearest(name, known)}")
    values = _defaults(method, variant, takes) | options
    if method in PLAIN and values.get("rank") is None and values.get("energy") is None:
        raise ConfigError(
            f"`{method}` of updates is not of low rank: give `rank` or `energy`, or use `knots_{method}`, which keeps "
            "the exact rank"
        )
    for name, value in values.items():
        values[name] = _checked(name, value)
    Keep(values.get("rank"), values.get("energy")).check()
    return Options(
        method=method,
        weights=_numbers("weights", weights, adapters, 1.0),
        density=_densities(method, density, adapters),
        **values,
    )


def _defaults(method: str, variant: str | None, takes: tuple[str, ...]) -> dict[str, Any]:
    """Return what the table of methods says where nothing is given: the variant's choices, else the defaults."""
    row = methods.load().get(method)
    if variant is not None and (row is None or not row.variants):
        raise ConfigError(f"`{method}` has no variants; leave `variant` out")
    if row is None:  # `svd` is `cat` with a rank
        return {}
    row = for_adapters(row)
    values = {parameter.name: parameter.default for parameter in row.scoped("global", "merge")}
    known = {reading.name: dict(reading.options) for reading in row.variants}
    if variant is not None and variant not in known:
        raise ConfigError(f"variant `{variant}` is not one of {', '.join(known)}{nearest(variant, known)}")
    values |= known.get(variant or default_variant(row) or "", {})
    return {name: value for name, value in values.items() if name in takes}


def _densities(method: str, density: float | Sequence[float] | None, adapters: int) -> tuple[float, ...]:
    takes = "density" in _TAKES[method]
    if takes and density is None:
        raise ConfigError(f"`{method}` needs `density`, the fraction of entries that is kept, from 0 to 1")
    if not takes and density is not None:
        raise ConfigError(f"`{method}` takes no option `density`: it drops nothing")
    numbers = _numbers("density", density, adapters, 1.0)
    for number in numbers:
        if not 0 <= number <= 1:
            raise ConfigError(f"`density` is {number:g}; it lies between 0 and 1")
    return numbers


def _numbers(
    name: str, value: float | Sequence[float] | None, count: int, default: float
) -> tuple[float, ...]:
    """One finite number for each adapter."""
    if value is None:
        value = default
    if isinstance(value, str | bytes) or not isinstance(value, int | float | Sequence):
        raise ConfigError(f"`{name}` is {value!r}; it is a number, or one for each adapter")
    numbers = (value,) * count if isinstance(value, int | float) else tuple(value)
    if len(numbers) != count:
        raise ConfigError(f"`{name}` has {len(numbers)} numbers for {count} adapters; give one for each")
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise ConfigError(f"`{name}` holds {number!r}; it must be a finite number")
    return tuple(float(number) for number in numbers)


def _checked(name: str, value: Any) -> Any:
    """Return the value of a field, its type and range checked."""
    kind = _TYPES[name]
    if get_origin(kind) is Literal:
        if name == "rescale" and isinstance(value, bool):
            value = str(value).lower()
        if value not in get_args(kind):
            raise ConfigError(f"`{name}` is {value!r}; it is one of {', '.join(get_args(kind))}")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise ConfigError(f"`{name}` is {value!r}; it is True or False")
        return value
    if value is None and name in ("rank", "energy", "absolute_tolerance", "memory"):
        return None
    if name in ("rank", "memory", "seed"):
        least = 0 if name == "seed" else 1
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 1 << 64:
            raise ConfigError(f"`{name}` is {value!r}; it is a whole number from {least} on")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"`{name}` is {value!r}; it must be a finite number")
    if name in ("tolerance", "absolute_tolerance") and value < 0:
        raise ConfigError(f"`{name}` is {value!r}; it must not be negative")
    return float(value)
