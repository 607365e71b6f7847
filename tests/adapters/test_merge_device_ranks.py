"""`--device` with a rank: the methods on ΔW, against the core's route and against dense float64."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.loading import updates_of
from adapters.merging import Q, V, distance, lora, merged, oracle, result
from adapters.zoo import CASES, make, torch
from carrick.adapters import merge
from carrick.cli import main
from carrick.errors import ConfigError, PlanError
from oracles.files import read_file

DEVICES = [
    "torch:cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
METHODS = ["ties", "dare_linear", "dare_ties", "magnitude_prune"]
WEIGHTS = [1.5, -0.5, 1.0]
WIDE = {Q.format(0): (150, 210), V.format(0): (200, 130), Q.format(1): (150, 210), Q.format(2): (150, 210)}


@pytest.fixture(scope="module")
def three():
    return [lora(seed, rank=2 + seed, alpha=4, rslora=seed == 2) for seed in range(3)]


@pytest.fixture(scope="module")
def wide():
    return [lora(seed, WIDE, rank=4 + seed, alpha=5) for seed in range(3)]


def best_error(matrix, rank):
    sigma = np.linalg.svd(matrix, compute_uv=False)
    return float(np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rank", [1, 4, 50])
@pytest.mark.parametrize("method", METHODS)
def test_small_modules(method, rank, device, three):
    """By their whole spectra: the same update as the core's, and the oracle's where nothing is cut."""
    options = {"density": 0.4, "weights": WEIGHTS}
    asked = {"method": method, "rank": rank, "seed": 8, "parameters": {"lambda": 0.7}, **options}
    core, other = (merged(three, device=where, **asked) for where in ("cpu", device))
    assert distance(result(other), result(core)) <= 2e-6
    assert other.config == core.config
    for one, two in zip(core.modules, other.modules, strict=True):
        assert (one["path"], one["rank"]) == (two["path"], two["rank"])
        assert two["error"] == pytest.approx(one["error"], abs=2e-6)
        np.testing.assert_allclose(two["sigma"], one["sigma"], rtol=1e-5)
        assert two["min_gap"] == pytest.approx(one["min_gap"], rel=1e-3)
    if rank == 50:
        seed = {"seed": 8} if method.startswith("dare") else {}
        want = oracle(method, three, lambda_=0.7, **options, **seed)
        assert distance(result(other), want) <= 2e-6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rank", [1, 5, 25])
@pytest.mark.parametrize("method", METHODS)
def test_wide_modules(method, rank, device, wide):
    """By subspaces: no more than a hundredth above the best error there is."""
    seed = {"seed": 5} if method.startswith("dare") else {}
    options = {"density": 0.3, "weights": WEIGHTS, **seed}
    report = merged(wide, method=method, rank=rank, device=device, **options)
    want, got = oracle(method, wide, **options), result(report)
    assert [module["path"] for module in report.modules] == list(WIDE)
    for module in report.modules:
        path = module["path"]
        error = np.linalg.norm(got[path] - want[path]) / np.linalg.norm(want[path])
        least = best_error(want[path], rank)
        assert least * (1 - 1e-6) <= error <= 1.01 * least
        assert module["error"] == pytest.approx(error, rel=1e-4)
        assert module["route"] == "randomized"


@pytest.mark.parametrize("device", DEVICES)
def test_rounding_is_no_direction(device, three):
    """A sum of nine directions in dense matrices of 17: what float32 adds to them is not kept."""
    asked = {"method": "dare_linear", "density": 1.0, "rank": 50, "seed": 1}
    core, other = (merged(three, device=where, **asked) for where in ("cpu", device))
    assert [module["rank"] for module in core.modules] == [9, 9, 9]
    assert other.config == core.config
    assert distance(result(other), result(core)) <= 2e-6


OPTIONS = [
    {"variant": "paper"},
    {"variant": "reference"},
    {"variant": "mergekit"},
    {"trim_scope": "model"},
    {"kept_count": "floor_plus_one"},
    {"at_threshold": "all"},
    {"vote": "frequency"},
    {"zero_vote": "majority"},
    {"aggregate": "weighted_mean", "normalize": True},
    {"aggregate": "max"},
    {"rescale": "l1"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options_mean_the_same(options, three):
    asked = {"method": "ties", "density": 0.35, "weights": [1, 0.5, 2], "rank": 50}
    parameters = {name: value for name, value in options.items() if name != "variant"}
    variant = options.get("variant")
    core, other = (
        merged(three, variant=variant, parameters=parameters, device=where, **asked)
        for where in ("cpu", "torch:cpu")
    )
    assert distance(result(other), result(core)) <= 2e-6
    want = oracle("ties", three, density=0.35, weights=[1, 0.5, 2], **options)
    assert distance(result(other), want) <= 2e-6


@pytest.mark.parametrize("wide", ["precision", "inputs"])
@pytest.mark.parametrize("method", METHODS)
def test_doubles_are_kept_throughout(method, wide):
    """The cut is made in float64 as well, and nothing is told of it."""
    dtype = np.float64 if wide == "inputs" else np.float32
    adapters = [lora(seed, dtype=dtype) for seed in range(2)]
    asked = {"precision": "float64"} if wide == "precision" else {}
    report = merged(
        adapters, method=method, density=0.5, rank=3, dtype="float64", device="torch:cpu", **asked
    )
    assert not [note for note in report.notes if "float32" in note]
    for path, matrix in oracle(method, adapters, density=0.5).items():
        u, sigma, vt = np.linalg.svd(matrix)
        cut = (u[:, :3] * sigma[:3]) @ vt[:3]
        assert np.linalg.norm(result(report)[path] - cut) <= 1e-10 * np.linalg.norm(cut)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["embedding", "convolutions", "gpt2", "patterns_rslora"])
@pytest.mark.parametrize("method", ["ties", "dare_linear"])
def test_kinds(method, name, device, tmp_path):
    """Names and shapes of what is not a linear layer: masks and the order of a trim hang on them."""
    folders = [make(CASES[name], tmp_path / str(seed), seed).folder for seed in range(2)]
    trim = {"trim_scope": "model"} if method == "ties" else {}
    for number, where in enumerate(("cpu", device)):
        merge(
            folders, tmp_path / f"out{number}", method=method, density=0.5, rank=99, parameters=trim,
            dtype="float32", device=where,
        )  # fmt: skip
    core, other = (updates_of(tmp_path / f"out{number}") for number in range(2))
    assert distance(other, core) <= 3e-6


def test_the_command(three, tmp_path):
    folders = [str(one.write(tmp_path / str(i))) for i, one in enumerate(three)]
    words = [
        "adapters",
        "merge",
        *folders,
        "-m",
        "dare_ties",
        "--density",
        "0.4",
        "--rank",
        "4",
        "--seed",
        "3",
    ]
    for where in ("cpu", "torch:cpu"):
        assert main([*words, "-o", str(tmp_path / where), "--device", where]) == 0
    core, other = (updates_of(tmp_path / where) for where in ("cpu", "torch:cpu"))
    assert distance(other, core) <= 2e-6
    names = [read_file(tmp_path / where / "adapter_model.safetensors") for where in ("cpu", "torch:cpu")]
    assert {k: x.shape for k, x in names[0].items()} == {k: x.shape for k, x in names[1].items()}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"method": "ties", "density": 0.5}, PlanError, "`ties` of updates is not of low rank: .*--rank R"),
        ({"method": "cat"}, ConfigError, "`cat` without a rank has nothing to decompose"),
    ],
)
def test_what_a_device_does_not_do(options, error, words, three):
    with pytest.raises(error, match=words):
        merged(three, device="torch:cpu", **options)


@pytest.mark.parametrize("device", DEVICES)
def test_a_rank_beyond_what_is_left_of_a_shared_basis(device):
    """An adapter of weight 0 is part of the basis, and leaves the merge no directions of its own."""
    adapters = [lora(seed, rank=3) for seed in range(2)]
    options = {"method": "knots_linear", "weights": [1.0, 0.0], "rank": 6}
    core, other = (merged(adapters, device=where, **options) for where in ("cpu", device))
    assert [module["rank"] for module in other.modules] == [module["rank"] for module in core.modules]
    assert {module["rank"] for module in core.modules} == {3}
    assert distance(result(other), result(core)) <= 5e-6
