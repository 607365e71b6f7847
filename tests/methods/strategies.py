"""What hypothesis draws: tensors with all that is awkward in them, and parameters over their whole ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

from methods.case import RANDOM, Case
from oracles.dtypes import FLOATS, NUMPY

if TYPE_CHECKING:
    from oracles.dtypes import Array

SHAPES = [
    (0,),
    (1,),
    (3,),
    (17,),
    (64,),
    (1, 1),
    (5, 1),
    (1, 9),
    (7, 13),
    (3, 0),
    (4, 3, 5),
    (2, 33),
    (129,),
    (),
]
# Exact in float32, or such that no sum of four of them cancels to almost nothing.
WEIGHTS = [0.0, 1.0, 0.5, 0.25, -1.0, -0.5, 0.7, 1.1, 2.0]
DENSITIES = [0.0, 1.0, 0.5, 0.1, 0.33, 0.9, 0.001, 0.999]


@st.composite
def tensors(draw: st.DrawFn, shape: tuple[int, ...], dtype: str, special: bool) -> Array:
    """Normal numbers, or few values many times over; with `special`, NaN, ±Inf, -0 and subnormals too."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "few", "zeros", "equal"]))
    values: Array = rng.standard_normal(shape)
    if kind == "few":
        values = rng.integers(-3, 4, shape) * 0.25
    elif kind == "zeros":
        values = values * (rng.random(shape) < 0.2)
    elif kind == "equal":
        values = np.where(rng.random(shape) < 0.5, -0.5, 0.5)
    values = np.array(values, np.float64)
    if special and values.size:
        awkward = [np.nan, np.inf, -np.inf, -0.0, 0.0, 2.0**-149, -(2.0**-130), 3e-8, 448.0, 65504.0, -1e30]
        if NUMPY[dtype].itemsize < 4:
            awkward = awkward[:-1]
        spots = rng.integers(0, values.size, max(1, values.size // 6))
        values.reshape(-1)[spots] = rng.choice(awkward, spots.size)
    with np.errstate(all="ignore"):
        return np.asarray(values, np.float32 if dtype != "F64" else np.float64).astype(NUMPY[dtype])


@st.composite
def models(
    draw: st.DrawFn, count: int, special: bool, floats: tuple[str, ...] = FLOATS
) -> list[dict[str, Array]]:
    """Models of the same names and shapes; the dtype of each tensor of each model is its own."""
    names = [f"t.{i}.weight" for i in range(draw(st.integers(1, 3)))]
    shapes = {name: draw(st.sampled_from(SHAPES)) for name in names}
    mixed = draw(st.booleans())
    plain = draw(st.sampled_from(floats))
    return [
        {
            name: draw(tensors(shapes[name], draw(st.sampled_from(floats)) if mixed else plain, special))
            for name in names
        }
        for _ in range(count)
    ]


def parameters_of(draw: st.DrawFn, method: str) -> dict[str, Any]:
    """One model's parameters; DELLA's spread stays within (0, 1)."""
    values: dict[str, Any] = {"weight": draw(st.sampled_from(WEIGHTS))}
    if method != "task_arithmetic":
        values["density"] = draw(st.sampled_from(DENSITIES))
    if method.startswith("breadcrumbs"):
        values["gamma"] = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
    if method.startswith("della"):
        room = min(values["density"], 1 - values["density"])
        values["epsilon"] = draw(st.sampled_from([0.0, 0.15, 0.08])) if room > 0.15 else room / 2
    return values


@st.composite
def task_vector_cases(
    draw: st.DrawFn, method: str, options: dict[str, list[Any]], counts: tuple[int, int] = (1, 4)
) -> Case:
    """A base and models, as few and as many as `counts` says; each option drawn from the values that it is given."""
    drawn = {key: draw(st.sampled_from(values)) for key, values in options.items()}
    # A measured ratio of norms means nothing among NaN and Inf, nor a rank among bits of two precisions.
    rescale = drawn.get("rescale", "false")
    measured = rescale == "l1" or (rescale == "true" and method not in RANDOM)
    whole = drawn.get("trim_scope") == "model" or drawn.get("variant") in ("paper", "reference")
    special = draw(st.booleans()) and not measured
    floats = tuple(name for name in FLOATS if name != "F64") if whole else FLOATS
    base, *rest = draw(models(1 + draw(st.integers(*counts)), special, floats))
    parameters = [parameters_of(draw, method) for _ in rest]
    return Case(method, rest, base, parameters, drawn, draw(st.integers(0, 2**64 - 1)))
