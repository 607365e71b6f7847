"""`linear` and `passthrough` against their oracle."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from methods import engine, harness
from methods.case import Case
from methods.harness import check
from methods.strategies import WEIGHTS, models

if TYPE_CHECKING:
    from pathlib import Path


@st.composite
def linear_cases(draw: st.DrawFn) -> Case:
    inputs = draw(models(draw(st.integers(1, 5)), draw(st.booleans())))
    weights = [draw(st.sampled_from(WEIGHTS)) for _ in inputs]
    normalize = draw(st.booleans())
    assume(not normalize or abs(sum(weights)) > 0.05)
    return Case("linear", inputs, None, [{"weight": w} for w in weights], {"normalize": normalize})


@st.composite
def passthrough_cases(draw: st.DrawFn) -> Case:
    (model,) = draw(models(1, draw(st.booleans())))
    return Case("passthrough", [model], None, [{"scale": draw(st.sampled_from([1.0, *WEIGHTS]))}])


def test_linear(tmp_path: Path) -> None:
    @given(linear_cases())
    def holds(case: Case) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


def test_passthrough(tmp_path: Path) -> None:
    @given(passthrough_cases())
    def holds(case: Case) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


def test_passthrough_without_a_scale_copies_bytes(tmp_path: Path) -> None:
    values = np.array([0x7FC12345, 0x80000001, 0xFF812345, 0], np.uint32).view(np.float32)
    case = Case("passthrough", [{"w": values}])
    assert harness.run(case, tmp_path / "run")["w"].tobytes() == values.tobytes()
