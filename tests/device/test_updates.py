"""The plain methods on ΔW cut to a rank: the dense oracle in float64, and what must not change the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from carrick import arrays
from carrick.errors import CarrickError
from carrick.torch import Module, Term, consensus, merge_on_device, read_options, updates
from carrick.torch.task_vectors import TaskVectors
from device.models import dense, merge, modules_of, random_model
from device.oracle import Dense, Model, relative_error
from device.test_memory import failing
from oracles import updates as oracles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch.keep import Keep
    from oracles.dtypes import Array

CPU = torch.device("cpu")
ALL = 99
"""A rank that no module has: nothing is cut."""

WIDE = {f"layers.{i}.q": (150, 210) for i in range(5)} | {f"layers.{i}.o": (200, 130) for i in range(2)}

SIGNED = [("layers.0.q", (20, 30)), ("layers.1.q", (40, 30))]

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("ties", {"density": 0.3}),
    ("ties", {"density": 0.3, "variant": "paper", "weights": [1, -2, 0.5]}),
    ("ties", {"density": 0.3, "variant": "reference"}),
    ("ties", {"density": 0.3, "variant": "mergekit", "weights": [1, 2, 0.5]}),
    ("ties", {"density": [0.2, 0.5, 0.9], "trim_scope": "model", "aggregate": "sum"}),
    ("ties", {"density": 0.3, "kept_count": "floor_plus_one", "vote": "frequency", "lambda_": -0.6}),
    ("ties", {"density": 0.3, "zero_vote": "majority", "aggregate": "max"}),
    ("ties", {"density": 0.3, "at_threshold": "all", "rescale": "l1"}),
    ("ties", {"density": [0.0, 1.0, 0.4], "trim_scope": "model"}),
    ("magnitude_prune", {"density": 0.25, "weights": [1, 2, 0.5]}),
    ("magnitude_prune", {"density": 0.25, "trim_scope": "model", "rescale": "true"}),
    ("dare_linear", {"density": 0.5, "seed": 3}),
    ("dare_linear", {"density": [0.5, 1.0, 0.0], "seed": 3, "rescale": "false"}),
    ("dare_ties", {"density": 0.6, "seed": 4, "weights": [1, 2, 0.5]}),
    ("dare_ties", {"density": 0.6, "seed": 4, "variant": "reference", "rescale": "l1"}),
]


def oracle(model: Model, method: str, **options: Any) -> dict[str, Array]:
    adapters = len(next(iter(model.values())))
    own = [
        {f"{path}.weight": term.delta for path, terms in model.items() if (term := terms[i]) is not None}
        for i in range(adapters)
    ]
    found = oracles.merge(method, own, **options)
    return {path: found[f"{path}.weight"] for path in model}


def best(matrix: Array, rank: int) -> Array:
    u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
    cut: Array = (u[:, :rank] * sigma[:rank]) @ vt[:rank]
    return cut


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_the_dense_oracle(method: str, options: dict[str, Any]) -> None:
    model = random_model(61, ranks=(4, 2, 5))
    model["model.layers.0.k_proj"][1] = None
    want = oracle(model, method, **options)
    for path, merged in merge(model, method, rank=ALL, **options).items():
        assert relative_error(dense(merged), want[path]) < 2e-6, path
    for rank in (2, ALL):
        for path, merged in merge(model, method, rank=rank, precision="float64", **options).items():
            cut = best(want[path], rank)
            # The Gram matrix of singular values that come close leaves half of the digits.
            assert relative_error(dense(merged), cut) < 1e-10, path
            error = np.linalg.norm(want[path] - cut) / np.linalg.norm(want[path])
            assert merged.diagnostics.error == pytest.approx(error, abs=1e-7)


@pytest.mark.parametrize("rank", [1, 6, 20])
@pytest.mark.parametrize(("method", "options"), METHODS[::3])
def test_a_subspace_is_at_most_a_hundredth_worse_than_the_best(
    method: str, options: dict[str, Any], rank: int
) -> None:
    model = random_model(62, shapes=WIDE)
    want = oracle(model, method, **options)
    for path, merged in merge(model, method, rank=rank, **options).items():
        sigma = np.linalg.svd(want[path], compute_uv=False)
        left = np.linalg.norm(dense(merged) - want[path])
        least = np.linalg.norm(sigma[rank:])
        assert least * (1 - 1e-6) <= left <= 1.01 * least
        found = merged.diagnostics
        assert (found.rank, found.route, merged.a.shape[0]) == (rank, "randomized", rank)
        assert found.error == pytest.approx(left / np.linalg.norm(want[path]), rel=1e-5)
        # They lie on B; where singular values are close together, a subspace holds less than all of them.
        own = np.linalg.svd(dense(merged), compute_uv=False)[:rank]
        np.testing.assert_allclose(found.sigma, own, rtol=1e-5)
        assert np.all(own <= sigma[:rank] * (1 + 1e-6))
        np.testing.assert_allclose((merged.a @ merged.a.T).numpy(), np.eye(rank), atol=1e-5)


def test_a_subspace_finds_all_of_what_is_of_low_rank() -> None:
    model = random_model(63, shapes=WIDE)
    for method in ("magnitude_prune", "dare_linear"):
        want = oracle(model, method, density=1.0, weights=[1, -2, 0.5])
        for path, merged in merge(model, method, density=1.0, weights=[1, -2, 0.5], rank=14).items():
            assert merged.diagnostics.route == "randomized"
            assert relative_error(dense(merged), want[path]) < 2e-6
            assert merged.diagnostics.error < 2e-6


@pytest.mark.parametrize("scale", [1e-36, 1.5e36])
def test_sizes_whose_squares_leave_float32(scale: float) -> None:
    rng = np.random.default_rng(64)
    a, b = (torch.from_numpy(rng.standard_normal(shape).astype(np.float32)) for shape in ((3, 90), (80, 3)))
    (got,) = merge_on_device(
        [Module.of("q", [Term(a, b, scale)])], read_options("ties", 1, density=1.0, rank=5)
    )
    assert relative_error(dense(got), scale * (b.double() @ a.double()).numpy()) < 2e-6
    assert got.diagnostics.error < 2e-6


def copies(seed: int) -> Model:
    """Modules that are copies of each other have entries that equal the threshold, in the order of their names."""
    model = random_model(seed, shapes={f"layers.{i}.q": (20, 30) for i in range(4)})
    some = dict.fromkeys(model, model["layers.0.q"])
    return some | random_model(seed + 1, shapes={"layers.1.o": (9, 30), "layers.3.o": (9, 30)})


@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("method", ["ties", "magnitude_prune"])
def test_entries_at_the_threshold_stay_in_the_order_of_names(method: str, memory: int | None) -> None:
    """Whatever the order in which the modules come, and in whatever batches."""
    model = copies(65)
    options: dict[str, Any] = {"density": 0.31, "trim_scope": "model"}
    want = oracle(model, method, **options)
    assert relative_error(want["layers.3.q"], want["layers.0.q"]) > 1e-3
    for some in (model, dict(reversed(model.items()))):
        for path, merged in merge(some, method, rank=ALL, memory=memory, **options).items():
            assert relative_error(dense(merged), want[path]) < 2e-6, path


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_votes_that_cancel_follow_the_majority_of_the_whole_model(sign: float) -> None:
    """Two adapters that are opposite in one module, and of one sign in a larger one."""
    small, large = (random_model(73, ranks=(3,), shapes={path: shape})[path][0] for path, shape in SIGNED)
    assert small is not None
    assert large is not None
    large = Dense(np.abs(large.a), np.abs(large.b), sign * large.scale)
    model: Model = {"layers.0.q": [small, Dense(small.a, -small.b, small.scale)], "layers.1.q": [large] * 2}
    options: dict[str, Any] = {"density": 1.0, "zero_vote": "majority"}
    want = oracle(model, "ties", **options)
    half = np.where(sign * small.delta > 0, small.delta, -small.delta)
    assert relative_error(want["layers.0.q"], half) < 1e-12
    for path, merged in merge(model, "ties", rank=ALL, **options).items():
        assert relative_error(dense(merged), want[path]) < 2e-6


def test_masks_are_those_of_the_core() -> None:
    """Bit for bit: each adapter's own, keyed by the name of the weight."""
    name = "model.layers.0.q_proj.weight"
    module = modules_of(random_model(66, shapes={"model.layers.0.q_proj": (70, 90)}))[0]
    assert module.weight_name == name
    for method in (arrays.dare_linear, arrays.dare_ties):
        for adapter in range(3):
            weights = [float(place == adapter) for place in range(3)]
            options = read_options(method.__name__, 3, weights=weights, density=0.4, seed=9, rank=1)
            source = updates._Updates([module], options, CPU)
            vectors = TaskVectors([module], [name], source, options, CPU)
            ones = [np.full((70, 90), float(place == adapter), np.float32) for place in range(3)]
            core = method(ones, weights=weights, density=0.4, seed=9, tensor=name)
            got = vectors.merged(0, [torch.from_numpy(x) for x in ones]).numpy()
            assert 0.3 < np.mean(got != 0) < 0.5
            assert np.array_equal(got != 0, np.asarray(core) != 0)


@pytest.mark.parametrize(("method", "options"), METHODS[1::4])
def test_batches_grow_with_the_memory_and_do_not_change_the_result(
    method: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(67, shapes=WIDE)
    sizes: list[int] = []
    approximated = updates.approximated

    def watched(matrices: torch.Tensor, keep: Keep, paths: Sequence[str]) -> Any:
        sizes.append(len(matrices))
        return approximated(matrices, keep, paths)

    monkeypatch.setattr(updates, "approximated", watched)
    # Of low rank: only then is a cut the same to the last digits.
    options = options | {"density": 1.0} | ({"aggregate": "sum"} if "ties" in method else {})
    together = {path: dense(merged) for path, merged in merge(model, method, rank=14, **options).items()}
    assert sizes == [5, 2]
    alone = merge(model, method, rank=14, memory=1, **options)
    assert sizes[2:] == [1] * 7
    for path, merged in alone.items():
        assert relative_error(dense(merged), together[path]) < 2e-6 + 2 * merged.diagnostics.error


@pytest.mark.parametrize(("method", "options"), METHODS[1::4])
def test_memory_that_runs_out_makes_batches_smaller(
    method: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = copies(68)
    want = {path: dense(merged) for path, merged in merge(model, method, rank=3, **options).items()}
    tried: list[int] = []

    def too_many(matrices: torch.Tensor, *_args: Any) -> bool:
        tried.append(len(matrices))
        return len(matrices) > 1

    monkeypatch.setattr(updates, "approximated", failing(updates.approximated, 99, too_many))
    for path, merged in merge(model, method, rank=3, **options).items():
        assert np.linalg.norm(dense(merged) - want[path]) <= 1e-6 * np.linalg.norm(want[path])
    assert tried[:3] == [4, 2, 1]


@pytest.mark.parametrize("after", range(6, 12))
def test_a_step_that_is_taken_again_finds_everything_as_it_was(
    after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first six votes are those of the majority, where there is nothing to give back."""
    model = copies(69)
    options: dict[str, Any] = {
        "density": 0.31, "variant": "paper", "zero_vote": "majority", "rank": ALL,
    }  # fmt: skip
    want = {path: dense(merged) for path, merged in merge(model, "ties", **options).items()}
    count = [0]

    def now(*_args: Any) -> bool:
        count[0] += 1
        return count[0] == after + 1

    monkeypatch.setattr(consensus, "votes", failing(consensus.votes, 1, now))
    for path, merged in merge(model, "ties", **options).items():
        assert relative_error(dense(merged), want[path]) < 1e-12
    assert count[0] > after


def test_one_module_that_does_not_fit_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updates, "approximated", failing(updates.approximated, 99, lambda *_: True))
    with pytest.raises(
        CarrickError, match=r"layers\.0\.q: the device's memory does not suffice for this module"
    ):
        merge(random_model(70, shapes={"layers.0.q": (20, 30)}), "ties", density=0.5, rank=2)


@pytest.mark.parametrize("shape", [(20, 30), (150, 210)])
def test_what_is_zero_has_one_zero_rank(shape: tuple[int, int]) -> None:
    """Nothing kept, or nothing there; others of the batch are as they would be."""
    model = random_model(71, shapes={"layers.0.q": shape, "layers.1.q": shape})
    for got in merge(model, "ties", density=0.0, rank=3).values():
        assert (got.a.shape[0], got.b.shape[1], got.diagnostics.rank, got.diagnostics.error) == (1, 1, 0, 0.0)
        assert not dense(got).any()
    a, b = torch.ones(2, shape[1]), torch.zeros(shape[0], 2)
    (other,) = modules_of({"layers.1.q": model["layers.1.q"][:1]})
    zero, one = merge_on_device(
        [Module.of("layers.0.q", [Term(a, b)]), other], read_options("ties", 1, density=1.0, rank=4)
    )
    assert not dense(zero).any()
    term = model["layers.1.q"][0]
    assert term is not None
    assert relative_error(dense(one), term.delta) < 2e-6


@pytest.mark.parametrize("shape", [(20, 30), (150, 210)])
def test_updates_too_large_for_float32_name_the_module(shape: tuple[int, int]) -> None:
    a, b = torch.full((1, shape[1]), 1e30), torch.full((shape[0], 1), 1e30)
    with pytest.raises(CarrickError, match=r"layers\.7\.q: what is merged holds infinities or NaN"):
        list(
            merge_on_device(
                [Module.of("layers.7.q", [Term(a, b)])], read_options("ties", 1, density=1.0, rank=2)
            )
        )


def test_weights_of_single_modules() -> None:
    model = random_model(72)
    first = next(iter(model))
    modules = modules_of({first: model[first]}, weights=(1.0, 3.0, -1.0))
    modules += modules_of({path: terms for path, terms in model.items() if path != first})
    options = read_options("ties", 3, density=0.5, rank=ALL)
    got = {merged.path: dense(merged) for merged in merge_on_device(modules, options)}
    own, usual = (
        oracle(model, "ties", density=0.5, weights=weights) for weights in ([1.0, 3.0, -1.0], [1.0, 1.0, 1.0])
    )
    for path, matrix in (usual | {first: own[first]}).items():
        assert relative_error(got[path], matrix) < 2e-6
