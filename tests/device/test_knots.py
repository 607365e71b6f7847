"""KnOTS on a device: the published code's numbers, a dense oracle, and what must not change the result."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.errors import CarrickError
from carrick.torch import Module, merge_on_device, read_options
from device.models import dense, merge, modules_of, random_model, random_term
from device.oracle import Dense, Model, deltas_of, knots, relative_error

if TYPE_CHECKING:
    from pathlib import Path

    from oracles.dtypes import Array


def assert_same(got: dict[str, Array], want: dict[str, Array], tolerance: float) -> None:
    assert sorted(got) == sorted(want)
    for path, matrix in want.items():
        assert relative_error(got[path], matrix) < tolerance, path


def result(model: Model, method: str, **options: Any) -> dict[str, Array]:
    return {path: dense(merged) for path, merged in merge(model, method, **options).items()}


def reference_cases(shared: Path) -> tuple[Model, list[dict[str, Any]]]:
    fixture = json.loads((shared / "fixtures" / "knots_reference.json").read_text())
    model: Model = {
        path: [
            Dense(np.float32(task[path]["A"]), np.float32(task[path]["B"]), 1.0) for task in fixture["inputs"]
        ]
        for path in fixture["inputs"][0]
    }
    return model, fixture["cases"]


def test_the_published_code(shared: Path) -> None:
    """All cases of the joint representation; the others are plain TIES on ΔW."""
    model, cases = reference_cases(shared)
    joint = [case for case in cases if case["cfg"]["representation"] == "svd-vector"]
    assert len(joint) == 7
    for case in joint:
        config = case["cfg"]
        options: dict[str, Any] = {"lambda_": config["scaling_coeffs"], "absolute_tolerance": 1e-5}
        if config["merge_method"] == "tv":
            got = result(model, "knots_linear", **options)
        else:
            options |= {"density": config["topK"] / 100, "aggregate": config["merging_type"]}
            got = result(model, "knots_ties", **options)
        assert_same(got, {path: np.array(x) for path, x in case["merged"].items()}, 1e-5)


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("knots_linear", {"weights": [1, -0.5, 2]}),
    ("knots_linear", {"weights": [1, -0.5, 2], "normalize": True, "lambda_": 0.7}),
    ("knots_ties", {"density": 1.0}),
    ("knots_ties", {"density": 0.3, "weights": [1, 2, 0.5], "lambda_": 0.6}),
    ("knots_ties", {"density": [0.2, 0.5, 0.9], "aggregate": "sum"}),
    ("knots_ties", {"density": 0.4, "aggregate": "max"}),
    ("knots_ties", {"density": 0.3, "trim_scope": "tensor"}),
    ("knots_ties", {"density": 0.3, "variant": "paper"}),
    ("knots_ties", {"density": 0.3, "variant": "peft", "weights": [1, -2, 0.5]}),
    ("knots_ties", {"density": 0.3, "variant": "mergekit", "weights": [1, 2, 0.5]}),
    ("knots_ties", {"density": 0.3, "vote": "frequency"}),
    ("knots_ties", {"density": 0.3, "rescale": "l1"}),
    ("knots_ties", {"density": 0.0}),
    ("knots_dare_linear", {"density": 0.5, "seed": 3}),
    ("knots_dare_linear", {"density": [0.5, 1.0, 0.0], "seed": 3, "rescale": "false"}),
    ("knots_dare_ties", {"density": 0.6, "seed": 4, "weights": [1, 2, 0.5]}),
    ("knots_dare_ties", {"density": 0.6, "seed": 4, "rescale": "l1"}),
    ("knots_magnitude_prune", {"density": 0.25, "weights": [1, 2, 0.5]}),
    ("knots_magnitude_prune", {"density": 0.25, "rescale": "true"}),
]


def oracle(model: Model, method: str, **options: Any) -> dict[str, Array]:
    adapters = len(next(iter(model.values())))
    spread = {
        key: value if isinstance(value, list) else [value] * adapters
        for key, value in {"weights": 1.0, "density": 1.0, **options}.items()
        if key in ("weights", "density")
    }
    return knots(model, method, **spread, **{key: x for key, x in options.items() if key not in spread})


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_the_dense_oracle(method: str, options: dict[str, Any], direction: str) -> None:
    model = random_model(17, ranks=(4, 4, 4))
    got = result(model, method, direction=direction, **options)
    assert_same(got, oracle(model, method, direction=direction, **options), 1e-6)


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_dense_oracle_in_float64(method: str, options: dict[str, Any]) -> None:
    model = random_model(21, ranks=(4, 2, 5))
    got = result(model, method, precision="float64", **options)
    assert_same(got, oracle(model, method, working=np.float64, **options), 1e-10)


@pytest.mark.parametrize("ranks", [(4,), (2, 3), (1, 6, 3), (0, 3, 2), (8, 8, 8, 8)])
def test_mixed_ranks_one_adapter_missing_modules_and_more_ranks_than_rows(ranks: tuple[int, ...]) -> None:
    model = random_model(5, ranks)
    first = next(iter(model))
    if len(ranks) > 1:
        model[first] = [
            model[first][0] or random_term(np.random.default_rng(1), 24, 40, 2),
            *[None] * (len(ranks) - 1),
        ]
    density = {"density": 0.37}
    assert_same(result(model, "knots_ties", **density), oracle(model, "knots_ties", **density), 1e-6)


def test_the_linear_merge_is_the_weighted_sum() -> None:
    model = random_model(2)
    want = {
        path: sum(w * delta for w, delta in zip((1, 2, -1), deltas_of(terms), strict=True))
        for path, terms in model.items()
    }
    for method in ("knots_linear", "cat", "task_arithmetic", "svd"):
        assert_same(result(model, method, weights=[1, 2, -1]), want, 1e-6)
    with_lambda = result(model, "cat", weights=[1, 2, -1], normalize=True, lambda_=0.5)
    assert_same(with_lambda, {path: 0.25 * matrix for path, matrix in want.items()}, 1e-6)


def test_the_order_of_modules_and_of_batches_does_not_matter() -> None:
    model = random_model(9)
    options = read_options("knots_ties", 3, density=0.3, variant="paper", precision="float64")
    plain = [result.path for result in merge_on_device(modules_of(model), options)]
    assert plain == sorted(plain)
    forwards = result(model, "knots_ties", density=0.3, variant="paper", precision="float64")
    backwards = dict(reversed(model.items()))
    small = result(backwards, "knots_ties", density=0.3, variant="paper", precision="float64", memory=1)
    assert_same(small, forwards, 1e-12)


def test_what_is_held_and_what_is_made_again_are_the_same() -> None:
    model = random_model(10)
    for method, options in METHODS[3::4]:
        held, again = result(model, method, **options), result(model, method, **options, memory=1)
        for path, matrix in held.items():
            # One module a batch and several: only the small matrices may round differently.
            assert np.linalg.norm(matrix - again[path]) <= 1e-6 * max(np.linalg.norm(matrix), 1e-30)


def test_permuted_adapters() -> None:
    model = random_model(12)
    turned = {path: [terms[2], terms[0], terms[1]] for path, terms in model.items()}
    one = result(model, "knots_ties", density=0.3, weights=[1, 2, 3])
    assert_same(result(turned, "knots_ties", density=0.3, weights=[3, 1, 2]), one, 2e-6)


@pytest.mark.parametrize("factor", [2.0**-12, 1e-7, 3.7, 2.0**30, -1.0])
def test_scaled_adapters(factor: float) -> None:
    model = random_model(13)
    scaled: Model = {
        path: [term and replace(term, scale=term.scale * factor) for term in terms]
        for path, terms in model.items()
    }
    one = result(model, "knots_ties", density=0.3)
    want = {path: factor * matrix for path, matrix in one.items()}
    assert_same(result(scaled, "knots_ties", density=0.3), want, 2e-6)


def test_flipped_factors() -> None:
    model = random_model(14)
    flipped: Model = {
        path: [term and Dense(-term.a, -term.b, term.scale) for term in terms]
        for path, terms in model.items()
    }
    one = result(model, "knots_dare_ties", density=0.5, seed=1)
    assert_same(result(flipped, "knots_dare_ties", density=0.5, seed=1), one, 2e-6)


def test_copies_of_one_adapter_merge_to_it() -> None:
    model = {path: [terms[0]] * 3 for path, terms in random_model(15).items()}
    want = {path: deltas_of(terms)[0] for path, terms in model.items()}
    assert_same(result(model, "knots_ties", density=1), want, 1e-6)


def test_adapters_of_zeros() -> None:
    model = random_model(16)
    zeroed: Model = {
        path: [term and replace(term, b=term.b * 0) for term in terms] for path, terms in model.items()
    }
    for result_ in merge(zeroed, "knots_ties", density=0.5).values():
        assert result_.diagnostics.rank == 0
        assert result_.a.shape[0] == result_.b.shape[1] == 1
        assert not dense(result_).any()
    # A zero adapter beside others has no vote and no share in the mean.
    some: Model = {
        path: [first, second and replace(second, b=second.b * 0)]
        for path, (first, second, _third) in model.items()
    }
    want = {path: deltas_of(terms)[0] for path, terms in model.items()}
    assert_same(result(some, "knots_ties", density=1), want, 1e-6)


def test_a_rank_truncates_the_merged_module_best() -> None:
    model = random_model(18)
    full = result(model, "knots_ties", density=0.5)
    cut = merge(model, "knots_ties", density=0.5, rank=3)
    for path, merged in cut.items():
        u, sigma, vt = np.linalg.svd(full[path])
        best = (u[:, :3] * sigma[:3]) @ vt[:3]
        assert merged.a.shape[0] == merged.diagnostics.rank == 3
        assert relative_error(dense(merged), best) < 1e-5
        wanted = np.linalg.norm(sigma[3:]) / np.linalg.norm(sigma)
        assert merged.diagnostics.error == pytest.approx(wanted, rel=1e-4)


def test_weights_of_single_modules() -> None:
    model = random_model(19)
    paths = list(model)
    modules = [
        Module(
            m.path,
            m.out_features,
            m.in_features,
            m.ranks,
            m.load,
            (1.0, 3.0, -1.0) if m.path == paths[0] else None,
        )
        for m in modules_of(model)
    ]
    options = read_options("knots_ties", 3, density=1, weights=[1, 1, 1])
    got = {merged.path: dense(merged) for merged in merge_on_device(modules, options)}
    own, usual = (
        oracle(model, "knots_ties", density=1.0, weights=w) for w in ([1.0, 3.0, -1.0], [1.0, 1.0, 1.0])
    )
    assert_same(got, usual | {paths[0]: own[paths[0]]}, 1e-6)


def test_nearly_equal_singular_values_are_told() -> None:
    rng = np.random.default_rng(3)
    u, v = (np.linalg.qr(rng.standard_normal((20, 2)))[0] for _ in range(2))
    term = Dense(v.T.astype(np.float32), (u * [1.0, 1.0 - 1e-5]).astype(np.float32), 1.0)
    found = merge({"q": [term]}, "knots_ties", density=1)["q"].diagnostics
    assert found.min_gap == pytest.approx(1e-5, rel=0.05)


def test_modules_that_do_not_go_together() -> None:
    modules = modules_of(random_model(1))
    options = read_options("knots_ties", 3, density=1)
    with pytest.raises(CarrickError, match="no module"):
        merge_on_device([], options)
    with pytest.raises(CarrickError, match="listed twice"):
        merge_on_device([modules[0], modules[0]], options)
    with pytest.raises(CarrickError, match="3 adapters, where the merge has 2"):
        merge_on_device(modules, read_options("knots_ties", 2, density=1))
