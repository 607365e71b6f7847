"""The same merges on a GPU; the rest of these tests run them on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from carrick.torch.device import exact_arithmetic, find_device
from carrick.torch.random_mask import keep_mask
from device.models import dense, merge, random_model
from device.oracle import knots, relative_error
from device.test_knots import METHODS
from device.test_updates import METHODS as UPDATES
from device.test_updates import WIDE
from device.test_updates import oracle as plain

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU: torch finds no CUDA device")


@pytest.mark.parametrize(("method", "options"), METHODS)
@pytest.mark.parametrize("memory", [None, 1])
def test_a_gpu_gives_what_the_dense_oracle_gives(
    method: str, options: dict[str, Any], memory: int | None
) -> None:
    model = random_model(17)
    spread = {
        key: value if isinstance(value, list) else [value] * 3
        for key, value in {"weights": 1.0, "density": 1.0, **options}.items()
        if key in ("weights", "density")
    }
    want = knots(model, method, **spread, **{key: x for key, x in options.items() if key not in spread})
    for path, merged in merge(model, method, device="cuda", memory=memory, **options).items():
        assert merged.a.is_cuda
        assert relative_error(dense(merged), want[path]) < 1e-6


@pytest.mark.parametrize(("method", "options"), UPDATES)
@pytest.mark.parametrize("memory", [None, 1])
def test_the_plain_methods_on_a_gpu(method: str, options: dict[str, Any], memory: int | None) -> None:
    model = random_model(20)
    want = plain(model, method, **options)
    for path, merged in merge(model, method, device="cuda", memory=memory, rank=99, **options).items():
        assert merged.a.is_cuda
        assert relative_error(dense(merged), want[path]) < 2e-6


@pytest.mark.parametrize("rank", [1, 6, 20])
def test_subspaces_on_a_gpu(rank: int) -> None:
    model = random_model(21, shapes=WIDE)
    want = plain(model, "ties", density=0.3)
    for path, merged in merge(model, "ties", device="cuda", density=0.3, rank=rank).items():
        sigma = np.linalg.svd(want[path], compute_uv=False)
        left = float(np.linalg.norm(dense(merged) - want[path]))
        assert left <= 1.01 * np.linalg.norm(sigma[rank:])
        assert merged.diagnostics.route == "randomized"
        assert merged.diagnostics.error == pytest.approx(left / np.linalg.norm(want[path]), rel=1e-4)


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize(
    ("method", "options"), [("svd", {}), ("ties", {"density": 0.3}), ("knots_ties", {"density": 0.3})]
)
def test_energies_on_a_gpu(method: str, options: dict[str, Any], memory: int | None, share: float) -> None:
    """The ranks of the CPU, whose products are checked against dense SVDs."""
    model = random_model(22)
    want = merge(model, method, energy=share, **options)
    for path, merged in merge(model, method, device="cuda", memory=memory, energy=share, **options).items():
        assert merged.a.is_cuda
        assert merged.diagnostics.rank == want[path].diagnostics.rank
        assert relative_error(dense(merged), dense(want[path])) < 1e-5


@pytest.mark.parametrize("method", ["cat", "svd"])
def test_sums_on_a_gpu(method: str) -> None:
    model = random_model(18)
    want = merge(model, method)
    for path, merged in merge(model, method, device="cuda").items():
        assert relative_error(dense(merged), dense(want[path])) < 1e-6


def test_masks_do_not_depend_on_the_device() -> None:
    masks = [
        keep_mask(3, 1, "a", 1_000_003, probability=0.4, device=torch.device(name)).cpu()
        for name in ("cpu", "cuda")
    ]
    assert torch.equal(*masks)


def test_tf32_does_not_reach_the_products() -> None:
    device = find_device("cuda")
    x = torch.randn(256, 256, device=device)
    exact = (x.double() @ x.double()).cpu().numpy()
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_arithmetic(device):
            product = (x @ x).cpu().numpy()
    finally:
        torch.set_float32_matmul_precision("highest")
    assert np.linalg.norm(product - exact) < 1e-6 * np.linalg.norm(exact)


def test_memory_that_runs_out_makes_batches_smaller() -> None:
    """Most of the card is taken, so that the first batch cannot fit."""
    model = random_model(19, ranks=(64, 64), shapes={f"layers.{i}.q": (2048, 2048) for i in range(24)})
    want = {path: dense(merged) for path, merged in merge(model, "knots_linear", device="cuda").items()}
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (48 << 20) * 4 / total))
    try:
        got = merge(model, "knots_linear", device="cuda", memory=free)
        for path, merged in got.items():
            assert relative_error(dense(merged), want[path]) < 1e-6
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
