"""Every task-vector method against its oracle, over dtypes, shapes, special values, densities and weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import engine
from methods.case import TASK_VECTOR, Case
from methods.harness import check
from methods.strategies import task_vector_cases
from oracles.ties import VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

SUM: dict[str, list[Any]] = {"normalize": [True, False], "lambda": [1.0, 0.4, -1.5, 0.0]}
ELECTION: dict[str, list[Any]] = {
    "vote": ["weighted", "sum", "frequency"],
    "zero_vote": ["plus", "none", "majority"],
    "aggregate": ["weighted_mean", "mean", "sum", "max"],
}
TRIM: dict[str, list[Any]] = {
    "trim_scope": ["tensor", "model"],
    "kept_count": ["at_least_one", "floor", "floor_plus_one"],
    "at_threshold": ["lowest_index", "all"],
}
RESCALE: dict[str, list[Any]] = {"rescale": ["false", "true", "density", "l1"]}
OPTIONS: dict[str, dict[str, list[Any]]] = {
    "task_arithmetic": SUM,
    "ties": SUM | ELECTION | TRIM | RESCALE,
    "dare_linear": SUM | RESCALE,
    "dare_ties": SUM | RESCALE | ELECTION,
    "magnitude_prune": SUM | RESCALE | TRIM,
    "breadcrumbs": SUM | RESCALE,
    "breadcrumbs_ties": SUM | RESCALE | ELECTION,
    "della_linear": SUM | RESCALE,
    "della": SUM | RESCALE | ELECTION,
}


@pytest.mark.parametrize("method", TASK_VECTOR)
def test_defaults(method: str, tmp_path: Path) -> None:
    @given(task_vector_cases(method, {}))
    def holds(case: Any) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


@pytest.mark.parametrize("method", TASK_VECTOR)
def test_all_options(method: str, tmp_path: Path) -> None:
    @given(task_vector_cases(method, OPTIONS[method]))
    def holds(case: Any) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


@pytest.mark.parametrize("method", ["ties", "dare_ties", "breadcrumbs_ties", "della"])
def test_many_models(method: str, tmp_path: Path) -> None:
    """Up to six go through in one go, and more in steps."""

    @settings(max_examples=30)
    @given(task_vector_cases(method, {}, (5, 8)))
    def holds(case: Any) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_of_ties(variant: str, tmp_path: Path) -> None:
    @given(task_vector_cases("ties", {"variant": [variant]}))
    def holds(case: Any) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


SINGLE = [(key, value) for key, values in (ELECTION | TRIM | RESCALE).items() for value in values]


@pytest.mark.parametrize(("key", "value"), SINGLE)
def test_single_options_of_ties(key: str, value: str, tmp_path: Path) -> None:
    @given(task_vector_cases("ties", {"variant": ["mergekit", "peft"], key: [value]}))
    def holds(case: Any) -> None:
        check(engine.run(case, tmp_path / "run"), case.expected(), case)

    holds()


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2"])
def test_output_types(dtype: str, tmp_path: Path) -> None:
    @given(st.sampled_from(sorted(TASK_VECTOR)).flatmap(lambda method: task_vector_cases(method, {})))
    def holds(case: Any) -> None:
        check(engine.run(case, tmp_path / "run", output_dtype=dtype), case.expected(), case, dtype)

    holds()


def test_the_majority_counts_tensors_of_every_precision(tmp_path: Path) -> None:
    """Nine minus signs of a float64 tensor outvote the float32 tensor whose zero votes they settle."""
    base = {"a": np.zeros(4, np.float32), "b": np.zeros(9, np.float64)}
    first = {"a": np.float32([1, -1, 2, 3]), "b": -np.ones(9)}
    second = {"a": np.float32([-1, 1, 1, 1]), "b": -np.ones(9)}
    parameters = [{"weight": 1.0, "density": 1.0}] * 2
    case = Case("ties", [first, second], base, parameters, {"zero_vote": "majority"})
    check(engine.run(case, tmp_path / "run"), case.expected(), case)


@pytest.mark.parametrize("aggregate", ["weighted_mean", "mean", "sum", "max"])
@pytest.mark.parametrize("vote", ["weighted", "sum", "frequency"])
def test_an_infinity_of_no_weight_is_not_a_number(vote: str, aggregate: str, tmp_path: Path) -> None:
    """0·∞ and ∞ - ∞ are NaN in every sum of the methods, with an election or without."""
    base = {"w": np.zeros(3, np.float32)}
    models = [{"w": np.float32([np.inf, np.inf, 1])}, {"w": np.float32([1, -np.inf, 2])}]
    parameters = [{"weight": 0.0, "density": 1.0}, {"weight": 1.0, "density": 1.0}]
    case = Case("ties", models, base, parameters, {"vote": vote, "aggregate": aggregate})
    check(engine.run(case, tmp_path / "run"), case.expected(), case)


def test_the_largest_keeps_the_sign_that_its_weight_gives(tmp_path: Path) -> None:
    """As a sum does: a model whose weight is negative is taken away, though its sign was elected."""
    base = {"w": np.zeros(3, np.float32)}
    models = [{"w": np.float32([1, 1, -1])}, {"w": np.float32([2, 0.25, -3])}]
    parameters = [{"weight": 1.0, "density": 1.0}, {"weight": -1.0, "density": 1.0}]
    case = Case("ties", models, base, parameters, {"vote": "sum", "aggregate": "max"})
    written = engine.run(case, tmp_path / "run")
    check(written, case.expected(), case)
    assert written["w"].tolist() == [-2, 1, 3]
