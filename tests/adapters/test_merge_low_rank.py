"""Methods on ΔW cut to a stated rank: against dense float64, and against PEFT's `*_svd` where it is right."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.loading import updates_of
from adapters.merging import SHAPES, distance, knots_oracle, lora, merged, oracle, result
from adapters.zoo import llama, peft, randomise, torch
from carrick.adapters import merge

WEIGHTS = [1.5, -0.5, 1.0]
METHODS = ["ties", "dare_linear", "dare_ties", "magnitude_prune"]


@pytest.fixture(scope="module")
def three():
    return [lora(seed, rank=2 + seed, alpha=4, rslora=seed == 2) for seed in range(3)]


def tails(want, rank):
    """Relative error of the best approximation of each module."""
    found = {}
    for path, matrix in want.items():
        sigma = np.linalg.svd(matrix, compute_uv=False)
        found[path] = float(np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma))
    return found


def check(report, want, rank, spectra=None):
    """No worse than a hundredth above the best error there is, and what is reported is what it is.

    `spectra` are the singular values that are reported, those of the result where nothing is said.
    """
    got, best = result(report), tails(want, rank)
    for module in report.modules:
        path = module["path"]
        error = np.linalg.norm(got[path] - want[path]) / np.linalg.norm(want[path])
        assert error <= 1.01 * best[path] + 2e-6, path
        assert error >= best[path] - 1e-9
        assert module["error"] == pytest.approx(error, rel=1e-3, abs=2e-6)
        assert module["rank"] == min(rank, np.linalg.matrix_rank(want[path]))
        if spectra is not None:
            np.testing.assert_allclose(module["sigma"][: len(spectra[path])], spectra[path], rtol=1e-5)
            continue
        sigma = np.linalg.svd(want[path], compute_uv=False)[: module["rank"]]
        np.testing.assert_allclose(module["sigma"], sigma, rtol=1e-2)


@pytest.mark.parametrize("rank", [1, 4, 17])
@pytest.mark.parametrize("method", METHODS)
def test_methods(method, rank, three):
    report = merged(
        three, method=method, density=0.4, weights=WEIGHTS, rank=rank, seed=8, parameters={"lambda": 0.7}
    )
    seed = {"seed": 8} if method.startswith("dare") else {}
    check(report, oracle(method, three, density=0.4, weights=WEIGHTS, lambda_=0.7, **seed), rank)


@pytest.mark.parametrize("variant", ["peft", "paper", "reference", "mergekit"])
def test_variants(variant, three):
    """Not those of KnOTS: unless it is said, TIES on updates is PEFT's."""
    options = {"density": 0.3, "weights": WEIGHTS}
    report = merged(three, method="ties", variant=variant, rank=50, **options)
    want = oracle("ties", three, variant=variant, **options)
    assert distance(result(report), want) <= 3e-6
    if variant == "peft":
        default = merged(three, method="ties", rank=50, **options)
        assert all(np.array_equal(default.state_dict[k], t) for k, t in report.state_dict.items())


OPTIONS = [
    {"trim_scope": "model"},
    {"kept_count": "floor_plus_one"},
    {"at_threshold": "all"},
    {"vote": "weighted"},
    {"vote": "frequency"},
    {"zero_vote": "none"},
    {"zero_vote": "majority"},
    {"aggregate": "weighted_mean", "normalize": True},
    {"aggregate": "sum"},
    {"aggregate": "max"},
    {"rescale": "l1"},
    {"lambda_": -0.5},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options, three):
    parameters = {name.removesuffix("_"): value for name, value in options.items()}
    report = merged(three, method="ties", density=0.35, weights=[1, 0.5, 2], rank=50, parameters=parameters)
    assert (
        distance(result(report), oracle("ties", three, density=0.35, weights=[1, 0.5, 2], **options)) <= 3e-6
    )


@pytest.mark.parametrize("energy", [0.5, 0.9, 0.99])
def test_energy(energy, three):
    """At least the share that is asked for, and no direction more than it takes."""
    report = merged(three, method="ties", density=0.4, energy=energy)
    want = oracle("ties", three, density=0.4)
    for module in report.modules:
        matrix = want[module["path"]]
        shares = np.cumsum(np.linalg.svd(matrix, compute_uv=False) ** 2) / np.sum(matrix**2)
        assert module["rank"] == np.searchsorted(shares, energy - 1e-6) + 1


@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize("rank", [1, 3, 6, 99])
@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_knots(method, rank, direction, three):
    """The merged coordinates are cut, and the basis only turns them: the best approximation of U·X."""
    seed = {"seed": 4} if method == "dare_ties" else {}
    options = {"density": 0.4, "weights": WEIGHTS, **seed}
    report = merged(
        three, method=f"knots_{method}", rank=rank, parameters={"direction": direction}, **options
    )
    spectra = {}
    for path in SHAPES:
        own = [one.updates()[path] for one in three]
        sigma = np.linalg.svd(np.concatenate(own, axis=int(direction == "columns")), compute_uv=False)
        spectra[path] = sigma[sigma > 1e-6 * sigma[0]]
    check(report, knots_oracle(method, three, direction=direction, **options), rank, spectra)


@settings(max_examples=15)
@given(
    count=st.integers(1, 4),
    rank=st.integers(1, 30),
    seed=st.integers(0, 99),
    density=st.sampled_from([0.1, 0.5, 1.0]),
)
def test_any_rank(count, rank, seed, density):
    adapters = [lora(seed + i, SHAPES, rank=1 + (seed + i) % 5) for i in range(count)]
    report = merged(adapters, method="ties", density=density, rank=rank)
    check(report, oracle("ties", adapters, density=density), rank)


def test_nothing_is_kept(three):
    report = merged(three, method="ties", density=0.0, rank=3)
    assert not any(tensor.any() for key, tensor in report.state_dict.items() if "lora_B" in key)
    assert {module["rank"] for module in report.modules} == {0}
    assert report.config["r"] == 1


@pytest.fixture(scope="module")
def in_peft(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("in-peft")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options = {"target_modules": ["q_proj", "up_proj"], "r": 3}
        wrapped = peft.get_peft_model(llama(), peft.LoraConfig(lora_alpha=5, **options))
        wrapped.add_adapter("other", peft.LoraConfig(lora_alpha=2, **options))
        for name in ("default", "other"):
            wrapped.set_adapter(name)
            randomise(wrapped)
        wrapped.save_pretrained(root)
    return wrapped, [root, root / "other"]


@pytest.mark.filterwarnings("ignore:The density 1.0 is greater")
@pytest.mark.parametrize(
    ("kind", "method", "density"),
    [
        ("ties_svd", "ties", 0.4),
        ("magnitude_prune_svd", "magnitude_prune", 0.4),
        ("dare_linear_svd", "dare_linear", 1.0),
        ("dare_ties_svd", "dare_ties", 1.0),
    ],
)
@pytest.mark.parametrize("rank", [4, 16])
def test_peft(kind, method, density, *, rank, in_peft, tmp_path):
    """PEFT from 0.21.2 on, which scales once: 16 is the full rank."""
    wrapped, folders = in_peft
    weights = [1.5, -0.5]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped.add_weighted_adapter(
            ["default", "other"], weights, "merged", combination_type=kind, density=density, svd_rank=rank
        )
    theirs = {
        path.removeprefix("base_model.model."): module.get_delta_weight("merged").detach().numpy()
        for path, module in wrapped.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    wrapped.delete_adapter("merged")
    merge(folders, tmp_path / "out", method=method, density=density, weights=weights, rank=rank)
    got = updates_of(tmp_path / "out")
    for path, matrix in theirs.items():
        assert np.linalg.norm(got[path] - matrix) <= (1e-5 if rank == 16 else 2e-2) * np.linalg.norm(
            matrix
        ), path
