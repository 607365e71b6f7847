"""Low-rank factors of merged updates, against singular values of the dense matrix in float64."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrick import _core
from carrick.adapters.merging.engine import Engine
from carrick.adapters.truncation import Cut, Truncation, truncate
from carrick.checkpoints.headers import read_file as read_header
from carrick.errors import CarrickError, PlanError
from carrick.plan.description import Description, Factor, Place, Product
from carrick.plan.job import Input, Job, Plan, Shard
from oracles.files import read_file, write_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Array = NDArray[Any]

TIES = {
    "normalize": False,
    "lambda": 1.0,
    "trim_scope": "tensor",
    "kept_count": "floor",
    "at_threshold": "lowest_index",
    "vote": "sum",
    "zero_vote": "plus",
    "aggregate": "mean",
    "rescale": "false",
}
GIB = 1 << 30


def ties(deltas: list[Array], density: float) -> Array:
    """TIES as PEFT has it, in float64: trim, sign of the sum, mean of those that agree."""
    kept = []
    for delta in deltas:
        flat = delta.ravel().copy()
        flat[np.argsort(-np.abs(flat), kind="stable")[int(density * flat.size) :]] = 0
        kept.append(flat.reshape(delta.shape))
    stack = np.stack(kept)
    sign = np.where(stack.sum(0) >= 0, 1, -1)
    agree = np.sign(stack) == sign
    merged: Array = (stack * agree).sum(0) / np.maximum(1, agree.sum(0))
    return merged


def lora(rng: np.random.Generator, shape: tuple[int, int], rank: int) -> tuple[Array, Array]:
    return rng.normal(size=(shape[0], rank)).astype("f4"), rng.normal(size=(rank, shape[1])).astype("f4")


class Case:
    """Adapters of several modules in a file, and jobs that merge them."""

    def __init__(self, folder: Path, shapes: list[tuple[int, int]], ranks: list[int], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.shapes, self.ranks, self.folder = shapes, ranks, folder
        self.pairs = [[lora(rng, shape, rank) for rank in ranks] for shape in shapes]
        tensors = {}
        for m, pairs in enumerate(self.pairs):
            for i, (b, a) in enumerate(pairs):
                tensors |= {f"{m}.{i}.b": b, f"{m}.{i}.a": a}
        write_file(folder / "in.safetensors", tensors)
        self.record, self.where = read_header(folder / "in.safetensors", 0)

    def job(self, module: int, method: str, options: dict[str, Any], parameters: dict[str, Any]) -> Job:
        rows, columns = self.shapes[module]
        inputs = []
        for i, rank in enumerate(self.ranks):
            b, a = (self.where[f"{module}.{i}.{f}"] for f in "ba")
            described = Description(rows, columns)
            left, right = (Factor(Place(0, t.begin, t.dtype)) for t in (b, a))
            described.products.append(Product(left, right, rank))
            inputs.append(Input(described, index=i, parameters=parameters, delta=True))
        return Job(f"m{module}", (rows, columns), "F32", method, options, inputs)

    def jobs_of_ties(self, density: float) -> list[Job]:
        parameters = {"weight": 1.0, "density": density}
        return [self.job(m, "ties", TIES, parameters) for m in range(len(self.shapes))]

    def dense(self, module: int) -> list[Array]:
        return [(b.astype("f8") @ a.astype("f8")).astype("f4").astype("f8") for b, a in self.pairs[module]]

    def run(self, jobs: list[Job], cuts: list[Cut], **options: Any) -> Truncation:
        engine = Engine(options.pop("memory", GIB), options.pop("threads", 2), folder=self.folder)
        return truncate([self.record], jobs, cuts, engine, **options)

    def factors(self) -> dict[str, Array]:
        return read_file(self.folder / "truncation.factors")


def tail(matrix: Array, rank: int) -> float:
    """Relative error of the best approximation."""
    sigma = np.linalg.svd(matrix, compute_uv=False)
    return float(np.sqrt((sigma[rank:] ** 2).sum() / (sigma**2).sum()))


@pytest.mark.parametrize("exact", [False, True])
def test_ties_on_updates_to_a_rank(tmp_path: Path, *, exact: bool) -> None:
    case = Case(tmp_path, [(200, 160), (90, 300)], [8, 6, 8])
    found = case.run(case.jobs_of_ties(0.4), [Cut(12), Cut(7)], exact=exact)
    held = case.factors()
    for module, rank in enumerate([12, 7]):
        merged = ties(case.dense(module), 0.4)
        a, b = (held[f"{module}.{f}"].astype("f8") for f in "ab")
        error = np.linalg.norm(merged - b @ a) / np.linalg.norm(merged)
        report = found.modules[module]
        assert (a.shape[0], b.shape[1], found.rank(module)) == (rank, rank, rank)
        assert report["route"] == ("exact" if exact else "randomized")
        assert error <= (1.0001 if exact else 1.01) * tail(merged, rank)
        assert report["error"] == pytest.approx(error, rel=1e-4)
        assert report["norm"] == pytest.approx(np.linalg.norm(merged), rel=1e-5)
        # As PEFT's svd: the rows of A are orthonormal, the singular values lie on B.
        np.testing.assert_allclose(a @ a.T, np.eye(rank), atol=3e-6)
        np.testing.assert_allclose(np.linalg.norm(b, axis=0), report["sigma"], rtol=1e-5)
        best = np.linalg.svd(merged, compute_uv=False)[:rank]
        np.testing.assert_allclose(report["sigma"], best, rtol=1e-4 if exact else 0.05)


def test_a_sum_of_low_rank_is_found_exactly(tmp_path: Path) -> None:
    case = Case(tmp_path, [(150, 260)], [4, 5])
    job = case.job(0, "task_arithmetic", {"normalize": False, "lambda": 1.0}, {"weight": 1.0})
    for exact in (False, True):
        report = case.run([job], [Cut(9)], exact=exact).modules[0]
        held, merged = case.factors(), sum(case.dense(0))
        np.testing.assert_allclose(held["0.b"] @ held["0.a"], merged, atol=2e-5)
        assert report["error"] < 5e-7
        np.testing.assert_allclose(report["sigma"], np.linalg.svd(merged, compute_uv=False)[:9], rtol=1e-5)


def test_energy_and_transposes(tmp_path: Path) -> None:
    case = Case(tmp_path, [(120, 300)], [3, 4, 5])
    merged = ties(case.dense(0), 0.6)
    squares = np.linalg.svd(merged, compute_uv=False) ** 2
    least = int(np.searchsorted(np.cumsum(squares) / squares.sum(), 0.8)) + 1
    found = case.run(case.jobs_of_ties(0.6), [Cut(energy=0.8, transposed=True)])
    held = case.factors()
    assert (held["0.b"].shape, held["0.a"].shape) == ((300, found.rank(0)), (found.rank(0), 120))
    assert found.rank(0) == least
    left = np.linalg.norm(merged.T - held["0.b"].astype("f8") @ held["0.a"].astype("f8")) ** 2
    assert left <= 0.2001 * squares.sum()


def test_threads_tiles_and_memory_change_no_bit(tmp_path: Path) -> None:
    case = Case(tmp_path, [(130, 200), (40, 50), (300, 70)], [4, 4])
    results = []
    for threads, memory in ((1, GIB), (2, GIB), (2, 60 << 20)):
        case.run(case.jobs_of_ties(0.5), [Cut(5)] * 3, threads=threads, memory=memory)
        results.append(case.factors())
    for other in results[1:]:
        for name, tensor in results[0].items():
            np.testing.assert_array_equal(tensor, other[name])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), rank=st.integers(1, 50), seed=st.integers(0, 99))
def test_any_shape(tmp_path: Path, rows: int, columns: int, rank: int, seed: int) -> None:
    case = Case(tmp_path, [(rows, columns)], [2, 3], seed)
    for exact in (False, True):
        found = case.run(case.jobs_of_ties(0.5), [Cut(rank)], exact=exact)
        merged, held = ties(case.dense(0), 0.5), case.factors()
        assert found.rank(0) <= min(rank, rows, columns)
        size = np.linalg.norm(merged)
        error = np.linalg.norm(merged - held["0.b"].astype("f8") @ held["0.a"].astype("f8"))
        sigma = np.linalg.svd(merged, compute_uv=False)
        assert error <= 1.01 * np.sqrt((sigma[rank:] ** 2).sum()) + 2e-6 * size


def test_zero_has_rank_zero(tmp_path: Path) -> None:
    case = Case(tmp_path, [(30, 20)], [2, 2])
    report = case.run(case.jobs_of_ties(0.0), [Cut(4)]).modules[0]
    assert (report["rank"], report["error"], report["norm"]) == (0, 0.0, 0.0)
    assert case.factors()["0.b"].shape == (30, 0)


def test_what_does_not_fit_the_memory_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, [(2000, 2000)], [2])
    with pytest.raises(PlanError, match="MiB of memory are needed, 32 MiB are allowed"):
        case.run(case.jobs_of_ties(0.5), [Cut(4)], memory=32 << 20)


def test_infinities_are_refused_by_name(tmp_path: Path) -> None:
    write_file(tmp_path / "w.safetensors", {"w": np.array([[1, np.inf], [0, 1]], "f4")})
    record, tensors = read_header(tmp_path / "w.safetensors", 0)
    place = Place(0, tensors["w"].begin, "F32")
    job = Job(
        "h.0.w", (2, 2), "F32", "linear", {"normalize": False}, [Input(place, parameters={"weight": 1.0})]
    )
    with pytest.raises(CarrickError, match=r"h\.0\.w.*NaN or infinities"):
        truncate([record], [job], [Cut(1)], Engine(GIB, 1, folder=tmp_path))


def test_requests_that_do_not_fit_the_plan(tmp_path: Path) -> None:
    case = Case(tmp_path, [(4, 4)], [1])
    jobs = case.jobs_of_ties(0.5)
    for cuts in ([], [Cut(energy=1.5)], [Cut(energy=0.0)]):
        with pytest.raises(CarrickError):
            case.run(jobs, cuts)
    jobs[0].shape = (16,)
    with pytest.raises(CarrickError, match="matrix"):
        case.run(jobs, [Cut(1)])


def test_an_exception_of_the_watcher_stops_it(tmp_path: Path) -> None:
    class Stop(Exception):  # noqa: N818
        pass

    def stop(_: str) -> None:
        raise Stop

    case = Case(tmp_path, [(1500, 1500)] * 6, [8, 8])
    engine = Engine(GIB, 1, progress=stop, folder=tmp_path)
    with pytest.raises(Stop):
        truncate([case.record], case.jobs_of_ties(0.5), [Cut(64)] * 6, engine)


def test_memory_is_told_beforehand(tmp_path: Path) -> None:
    case = Case(tmp_path, [(600, 800)], [2])
    plan = Plan([case.record], [Shard("x", 600 * 800 * 4)], case.jobs_of_ties(0.5))
    request, options = json.dumps({"jobs": [Cut(4).as_dict()]}), json.dumps({"threads": 2})
    told = _core.truncate_memory(plan.to_json(), request, options)
    report = json.loads(_core.truncate(plan.to_json(), request, str(tmp_path / "f"), options))
    assert told == report["peak_bytes"] > 3 * 600 * 800 * 4
