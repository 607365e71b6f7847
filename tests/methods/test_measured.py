"""`slerp`, `nuslerp` and `model_stock` against their oracles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from methods import engine
from methods.case import Case
from methods.harness import check
from methods.strategies import models
from oracles import nuslerp

if TYPE_CHECKING:
    from oracles.estimate import Estimate

if TYPE_CHECKING:
    from pathlib import Path

WEIGHT_PAIRS = [(0.6, 0.4), (1.0, 1.0), (1.0, -1.0), (2.0, -0.5), (0.0, 1.0), (0.0, 0.0)]


@st.composite
def slerp_cases(draw: st.DrawFn) -> Case:
    base, other = draw(models(2, draw(st.booleans())))
    return Case("slerp", [other], base, options={"t": draw(st.sampled_from([0.0, 1.0, 0.5, 0.3, -0.2, 1.4]))})


def well_posed(estimate: Estimate) -> bool:
    """Where vectors point almost opposite ways the arc between them is anyone's: 1/sin² magnifies bits."""
    with np.errstate(all="ignore"):
        return bool(
            (~np.isfinite(estimate.value) | (estimate.bound <= 1e-3 * (1 + np.abs(estimate.value)))).all()
        )


@st.composite
def nuslerp_cases(draw: st.DrawFn) -> Case:
    base, *two = draw(models(3, draw(st.booleans())))
    parameters = [{"weight": w} for w in draw(st.sampled_from(WEIGHT_PAIRS))]
    options = {key: draw(st.booleans()) for key in ("nuslerp_flatten", "nuslerp_row_wise")}
    case = Case("nuslerp", two, base if draw(st.booleans()) else None, parameters, options)
    assume(all(well_posed(estimate) for estimate in case.expected().values()))
    return case


@st.composite
def model_stock_cases(draw: st.DrawFn) -> Case:
    base, *rest = draw(models(draw(st.integers(3, 5)), draw(st.booleans())))
    return Case("model_stock", rest, base, options={"filter_wise": draw(st.booleans())})


@pytest.mark.parametrize("cases", [slerp_cases, nuslerp_cases, model_stock_cases])
def test_against_the_oracle(cases: st.SearchStrategy[Case], tmp_path: Path) -> None:
    @given(cases())
    def holds(case: Case) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


@pytest.mark.parametrize("scale", [1.0, -1.0, 1.01, 1e-12, 0.0])
def test_slerp_of_parallel_and_vanishing_vectors(scale: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((33, 17)).astype(np.float32)
    case = Case("slerp", [{"w": (x * np.float32(scale))}], {"w": x}, options={"t": 0.3})
    check(engine.run(case, tmp_path / "run"), case.expected(), case)


@pytest.mark.parametrize("flatten", [True, False])
def test_nuslerp_of_equal_vectors_gives_them_back(flatten: bool, tmp_path: Path) -> None:
    x = np.random.default_rng(2).standard_normal((9, 5)).astype(np.float32)
    case = Case(
        "nuslerp",
        [{"w": x}, {"w": x}],
        None,
        [{"weight": 1.0}, {"weight": 3.0}],
        {"nuslerp_flatten": flatten},
    )
    got = engine.run(case, tmp_path / "run")["w"]
    np.testing.assert_allclose(got, x, rtol=2.0**-22)


def test_row_wise_runs_along_the_first_dimension() -> None:
    """The switch's name and its axis, as mergekit has them; told apart on a tensor with two sides."""
    rng = np.random.default_rng(3)
    v0, v1 = (rng.standard_normal((2, 3)).astype(np.float32) for _ in range(2))
    options = {"weight": [1, 1], "flatten": False, "row_wise": True}
    columns = nuslerp.merge(None, {"w": v0}, {"w": v1}, **options)["w"].value
    for j in range(3):
        one = nuslerp.merge(None, {"w": v0[:, j]}, {"w": v1[:, j]}, weight=[1, 1])["w"].value
        np.testing.assert_allclose(columns[:, j], one, rtol=1e-12)


def test_model_stock_of_opposed_updates_keeps_the_base(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    base = rng.integers(-8, 8, 100).astype(np.float32)
    step = rng.integers(1, 4, 100).astype(np.float32)
    case = Case("model_stock", [{"w": base + step}, {"w": base - step}], {"w": base})
    assert np.array_equal(engine.run(case, tmp_path / "run")["w"], base)
