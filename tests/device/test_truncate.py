"""Best approximations of a given rank against the dense SVD."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from carrick.errors import CarrickError, ConfigError
from carrick.torch import Term, truncated, truncated_dense
from device.models import dense, merge, random_model, torch_term
from device.oracle import deltas_of, relative_error


@pytest.mark.parametrize("rank", [1, 3, 7, 12, 40])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_sum_of_terms(rank: int, precision: str) -> None:
    terms = random_model(31, ranks=(4, 4, 4), shapes={"q": (30, 50)})["q"]
    whole = sum(deltas_of(terms))
    u, sigma, vt = np.linalg.svd(whole)
    k = min(rank, 12)
    got = truncated([None if t is None else torch_term(t) for t in terms], rank, precision=precision)  # type: ignore[arg-type]
    tolerance = 1e-12 if precision == "float64" else 1e-6
    assert got.a.shape[0] == got.diagnostics.rank == k
    assert relative_error(dense(got), (u[:, :k] * sigma[:k]) @ vt[:k]) < 10 * tolerance
    assert np.allclose(got.diagnostics.sigma[:k], sigma[:k], rtol=1e-9)
    wanted = np.linalg.norm(sigma[k:12]) / np.linalg.norm(sigma)
    assert got.diagnostics.error == pytest.approx(wanted, rel=1e-6, abs=1e-12)
    # PEFT's division: the singular values are on B.
    assert np.allclose((got.a @ got.a.T).numpy(), np.eye(k), atol=1e-5)


def test_a_merge_by_svd_takes_its_rank() -> None:
    model = random_model(32)
    for path, merged in merge(model, "svd", rank=5, weights=[1, -2, 0.5]).items():
        whole = sum(w * d for w, d in zip((1, -2, 0.5), deltas_of(model[path]), strict=True))
        u, sigma, vt = np.linalg.svd(whole)
        assert relative_error(dense(merged), (u[:, :5] * sigma[:5]) @ vt[:5]) < 1e-5


def test_terms_that_cancel_leave_one_zero_rank() -> None:
    term = Term(torch.randn(3, 8, generator=torch.Generator().manual_seed(1)), torch.ones(6, 3))
    got = truncated([term, term._replace(scale=-1.0), None], 2)
    assert got.diagnostics.rank == 0
    assert (got.a.shape, got.b.shape) == ((1, 8), (6, 1))
    assert not dense(got).any()


@pytest.mark.parametrize("shape", [(20, 33), (33, 20), (9, 9), (1, 5)])
@pytest.mark.parametrize("rank", [1, 4, 50])
def test_dense_matrices(shape: tuple[int, int], rank: int) -> None:
    rng = np.random.default_rng(33)
    matrices = rng.standard_normal((3, *shape))
    for got, matrix in zip(
        truncated_dense(torch.from_numpy(matrices), rank, precision="float64"), matrices, strict=True
    ):
        u, sigma, vt = np.linalg.svd(matrix, full_matrices=False)
        assert relative_error(dense(got), (u[:, :rank] * sigma[:rank]) @ vt[:rank]) < 1e-10
        wanted = np.linalg.norm(sigma[rank:]) / np.linalg.norm(sigma)
        assert got.diagnostics.error == pytest.approx(wanted, abs=1e-9)


def test_a_dense_matrix_with_small_values_is_not_left_to_its_gram_matrix() -> None:
    matrix = torch.diag(torch.tensor([1.0, 1e-9, 1e-12], dtype=torch.float64))
    got = truncated_dense(matrix, 2, precision="float64")[0]
    assert got.diagnostics.route == "dense"
    assert (got.b @ got.a)[1, 1].item() == pytest.approx(1e-9, rel=1e-6)
    zero = truncated_dense(torch.zeros(4, 6), 2)[0]
    assert zero.diagnostics.rank == 0
    assert not dense(zero).any()


def test_bad_requests() -> None:
    with pytest.raises(ConfigError, match="`rank` is 0"):
        truncated([Term(torch.ones(1, 2), torch.ones(2, 1))], 0)
    with pytest.raises(ConfigError, match="`rank` is 0"):
        truncated_dense(torch.ones(2, 2), 0)
    with pytest.raises(CarrickError, match="NaN or infinity"):
        truncated_dense(torch.full((2, 2), torch.nan), 1)
    with pytest.raises(CarrickError, match="m × out × in"):
        truncated_dense(torch.ones(2), 1)
    with pytest.raises(CarrickError, match="no adapter has this module"):
        truncated([None], 1)
