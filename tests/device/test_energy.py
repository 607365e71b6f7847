"""The share of Σσ² that is kept sets each module's rank: dense SVDs in float64, and what must not change the result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from carrick.errors import CarrickError, ConfigError
from carrick.torch import Term, truncated, truncated_dense, updates
from carrick.torch import joint as joint_module
from device.models import dense, merge, random_model, torch_term
from device.oracle import deltas_of, relative_error
from device.test_knots import METHODS as KNOTS
from device.test_knots import oracle as knots
from device.test_memory import failing
from device.test_updates import METHODS as UPDATES
from device.test_updates import WIDE
from device.test_updates import oracle as plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.torch import Merged
    from carrick.torch.keep import Keep
    from device.oracle import Model
    from oracles.dtypes import Array

SHARES = [1e-9, 0.3, 0.9, 0.999, 1.0]


class Precision(NamedTuple):
    """A type, the tolerance of its products, and the part of the largest singular value that counts as none."""

    name: str
    tolerance: float
    floor: float


FLOAT32 = Precision("float32", 2e-6, 1e-6)
PRECISIONS = pytest.mark.parametrize(
    "precision", [FLOAT32, Precision("float64", 1e-10, 1e-12)], ids=lambda p: p.name
)


def least(sigma: Array, share: float, floor: float) -> int:
    """The fewest directions that hold the share; none that is rounding."""
    held = np.cumsum(sigma**2) / np.sum(sigma**2)
    numerical = int(np.sum(sigma > floor * sigma[0]))
    return min(int(np.sum(held < share * (1 - 1e-14))) + 1, numerical)


def check(got: Merged, want: Array, share: float, precision: Precision = FLOAT32) -> None:
    """It is the best approximation of the least rank that holds the share."""
    u, sigma, vt = np.linalg.svd(want, full_matrices=False)
    k = least(sigma, share, precision.floor)
    found = got.diagnostics
    assert (found.rank, got.a.shape[0], got.b.shape[1]) == (k, k, k), got.path
    # Directions turn into those behind the cut by rounding over the gap between them.
    gap = (sigma[k - 1] - (sigma[k] if k < len(sigma) else 0.0)) / sigma[0]
    allowed = precision.tolerance * max(1.0, 0.05 / gap)
    assert relative_error(dense(got), (u[:, :k] * sigma[:k]) @ vt[:k]) < allowed, got.path
    error = np.linalg.norm(sigma[k:]) / np.linalg.norm(sigma)
    assert found.error == pytest.approx(error, abs=2 * precision.tolerance)


@PRECISIONS
@pytest.mark.parametrize("share", SHARES)
def test_sums(share: float, precision: Precision) -> None:
    """Ranks and shapes that differ, more ranks than rows, and a module that one adapter does not have."""
    model = random_model(81, ranks=(4, 2, 5))
    model["model.layers.0.q_proj"][1] = None
    for path, merged in merge(
        model, "svd", energy=share, weights=[1, -2, 0.5], precision=precision.name
    ).items():
        want: Any = sum(w * d for w, d in zip((1, -2, 0.5), deltas_of(model[path]), strict=True))
        check(merged, want, share, precision)


@PRECISIONS
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(("method", "options"), UPDATES[::2])
def test_methods_on_updates(method: str, options: dict[str, Any], share: float, precision: Precision) -> None:
    model = random_model(82, ranks=(4, 2, 5))
    want = plain(model, method, **options)
    for path, merged in merge(model, method, energy=share, precision=precision.name, **options).items():
        check(merged, want[path], share, precision)
        # The singular values that are kept lie on B.
        np.testing.assert_allclose(np.linalg.norm(merged.b, axis=0), merged.diagnostics.sigma, rtol=1e-5)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_wide_modules_take_their_whole_spectra(share: float) -> None:
    """Where a rank would be looked for in a subspace, which is not exact enough to count by."""
    model = random_model(83, shapes=WIDE)
    want = plain(model, "ties", density=0.3)
    for path, merged in merge(model, "ties", density=0.3, energy=share).items():
        assert merged.diagnostics.route == "gram"
        check(merged, want[path], share)


@PRECISIONS
@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize(("method", "options"), [KNOTS[0], KNOTS[3], KNOTS[7], KNOTS[15], KNOTS[17]])
def test_knots(
    method: str,
    options: dict[str, Any],
    direction: str,
    share: float,
    precision: Precision,
) -> None:
    """What was merged is cut; what is reported of the basis stays that of the basis."""
    model = random_model(17, ranks=(4, 4, 4))
    asked: dict[str, Any] = {"direction": direction, **options}
    working = np.float64 if precision.name == "float64" else np.float32
    want = knots(model, method, working=working, **asked)
    whole = merge(model, method, precision=precision.name, **asked)
    for path, merged in merge(model, method, energy=share, precision=precision.name, **asked).items():
        check(merged, want[path], share, precision)
        one, two = whole[path].diagnostics, merged.diagnostics
        assert (one.sigma, one.min_gap, one.route) == (two.sigma, two.min_gap, two.route)


def test_shares_that_directions_hold_exactly() -> None:
    """Shares 16/21, 4/21, 1/21 of a sum and of a matrix: the borders belong to the fewer directions."""
    sizes = torch.tensor([4.0, 2.0, 1.0])
    term = Term(torch.eye(3, 7), torch.eye(5, 3) * sizes)
    for share, kept in [(0.1, 1), (0.76, 1), (0.77, 2), (0.95, 2), (0.96, 3), (1.0, 3)]:
        for got in (truncated([term], energy=share), truncated_dense(term.b @ term.a, energy=share)[0]):
            assert got.diagnostics.rank == kept, share
    four = torch.eye(4)
    assert [truncated_dense(four, energy=share)[0].diagnostics.rank for share in (0.5, 0.75, 0.76)] == [
        2,
        3,
        4,
    ]


def test_shares_near_one_do_not_stop_at_a_gram_matrix() -> None:
    """Its noise is larger than what may be left out: 1, 1e-6, 1e-14 and 1e-18 of the square."""
    matrix = torch.diag(torch.tensor([1.0, 1e-3, 1e-7, 1e-9], dtype=torch.float64))
    for share, kept, route in [
        (1 - 1e-5, 1, "gram"),
        (1 - 1e-8, 2, "gram"),
        (1 - 1e-13, 2, "gram"),
        (1 - 5e-15, 3, "dense"),
        (1.0, 4, "dense"),
    ]:
        got = truncated_dense(matrix, energy=share, precision="float64")[0].diagnostics
        assert got.rank == kept, share
        assert got.route == route or kept == 2, share
    # float32 factors hold no direction that is below their rounding.
    assert truncated_dense(matrix, energy=1.0)[0].diagnostics.rank == 2


def test_what_rounding_leaves_of_low_rank_is_not_kept() -> None:
    model = random_model(84, shapes=WIDE)
    for method, options in (("dare_linear", {"density": 1.0}), ("svd", {}), ("knots_linear", {})):
        for merged in merge(model, method, energy=1.0, **options).values():
            assert merged.diagnostics.rank == 12
            assert merged.diagnostics.error < 1e-6


@pytest.mark.parametrize(
    ("method", "options"),
    [("svd", {}), ("ties", {"density": 0.5}), ("knots_ties", {"density": 0.5})],
)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_modules_of_zeros_have_one_zero_rank(method: str, options: dict[str, Any], share: float) -> None:
    """Beside others of their shape, which are as they would be."""
    model = random_model(85, shapes={f"layers.{i}.q": (20, 30) for i in range(3)})
    others = merge({path: model[path] for path in list(model)[1:]}, method, energy=share, **options)
    first: Model = {"layers.0.q": [term and replace(term, b=term.b * 0) for term in model["layers.0.q"]]}
    got = merge(first | {path: model[path] for path in others}, method, energy=share, **options)
    zero = got.pop("layers.0.q")
    assert (zero.a.shape, zero.b.shape) == ((1, 30), (20, 1))
    assert (zero.diagnostics.rank, zero.diagnostics.error) == (0, 0.0)
    assert not dense(zero).any()
    if method == "svd":  # a trim over the model counts the zeros, too
        for path, merged in got.items():
            assert merged.diagnostics.rank == others[path].diagnostics.rank
            assert relative_error(dense(merged), dense(others[path])) < 1e-6


def test_everything_that_was_merged_may_be_zero() -> None:
    model = random_model(86)
    for method in ("ties", "knots_ties"):
        for merged in merge(model, method, density=0.0, at_threshold="lowest_index", kept_count="floor",
                            energy=0.9).values():  # fmt: skip
            assert (merged.diagnostics.rank, merged.a.shape[0], merged.b.shape[1]) == (0, 1, 1)
            assert not dense(merged).any()


@pytest.mark.parametrize("scale", [1e-36, 1.5e36])
def test_sizes_whose_squares_leave_float32(scale: float) -> None:
    term = random_model(87, ranks=(4,), shapes={"q": (20, 30)})["q"][0]
    assert term is not None
    term = replace(term, scale=scale / 100)
    for got in (truncated([torch_term(term)], energy=0.9),
                merge({"q": [term]}, "ties", density=1.0, energy=0.9)["q"]):  # fmt: skip
        check(got, term.delta, 0.9)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many dense matrices are cut together."""
    sizes: list[int] = []
    approximated = updates.approximated

    def watch(matrices: torch.Tensor, keep: Keep, paths: Sequence[str]) -> Any:
        sizes.append(len(matrices))
        return approximated(matrices, keep, paths)

    monkeypatch.setattr(updates, "approximated", watch)
    return sizes


def test_batches_leave_room_for_factors_of_every_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each module of a batch has a matrix, and factors that may take more than it."""
    model = random_model(88, shapes={f"layers.{i}.q": (60, 60) for i in range(6)})
    matrix = 60 * 60 * 4
    passing = max((2 * 3 + 10) * matrix, (24 + 40) * 60 * 60)
    sizes = watched(monkeypatch)
    want = merge(model, "ties", density=0.5, energy=0.9)
    assert sizes == [6]
    for spare, batches in [(6 * 3, [6]), (6 * 3 - 1, [5, 1]), (2 * 3, [2, 2, 2]), (0, [1] * 6)]:
        sizes.clear()
        memory = passing + spare * matrix
        for path, merged in merge(model, "ties", density=0.5, energy=0.9, memory=memory).items():
            assert relative_error(dense(merged), dense(want[path])) < 1e-6
        assert sizes == batches


@pytest.mark.parametrize(("method", "options"), [("ties", {"density": 0.5}), ("svd", {})])
def test_memory_that_runs_out_makes_batches_smaller(
    method: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(89, shapes={f"layers.{i}.q": (20, 30) for i in range(4)})
    want = merge(model, method, energy=0.8, **options)
    tried: list[int] = []

    def too_many(matrices: torch.Tensor, *_args: Any) -> bool:
        tried.append(len(matrices))
        return len(matrices) > 1

    monkeypatch.setattr(updates, "approximated", failing(updates.approximated, 99, too_many))
    monkeypatch.setattr(joint_module, "decompose", failing(joint_module.decompose, 99, too_many))
    for path, merged in merge(model, method, energy=0.8, **options).items():
        assert merged.diagnostics.rank == want[path].diagnostics.rank
        assert relative_error(dense(merged), dense(want[path])) < 1e-6
    assert tried[:3] == [4, 2, 1]


def test_bad_requests() -> None:
    term = Term(torch.ones(1, 2), torch.ones(2, 1))
    for share in (0.0, -0.5, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="above 0, up to 1"):
            truncated([term], energy=share)
        with pytest.raises(ConfigError, match="above 0, up to 1"):
            truncated_dense(torch.ones(2, 2), energy=share)
    with pytest.raises(ConfigError, match="both set the rank"):
        truncated([term], 1, energy=0.5)
    with pytest.raises(CarrickError, match="q: what is merged holds NaN or infinity"):
        truncated_dense(torch.full((2, 2), torch.nan), energy=0.5, paths=["q"])
