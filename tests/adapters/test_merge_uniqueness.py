"""Equal singular values leave the shared basis, and so the merge, open: said however the merge is made."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.merging import Lora, Q, V, lora, merged

WAYS = [
    {},
    {"rank": 2},
    {"energy": 0.9},
    {"device": "torch:cpu"},
    {"device": "torch:cpu", "rank": 2},
]
DROPS = ["ties", "magnitude_prune", "dare_linear", "dare_ties"]


@pytest.fixture(scope="module")
def twins():
    """Orthogonal and of equal size in one module, of sizes that differ in the other."""
    rows, columns = np.eye(17, dtype=np.float32), np.eye(21, dtype=np.float32)
    made = []
    for number in range(2):
        own = slice(2 * number, 2 * number + 2)
        apart = np.array([4.0, 1.5], np.float32) / (1 + number)
        made.append(
            Lora(
                {
                    Q.format(0): (rows[own], columns[:, own]),
                    V.format(0): (rows[own], columns[:, own] * apart),
                }
            )
        )
    return made


def joint(adapters, path, direction="columns"):
    """Singular values of all updates side by side, or one above the other."""
    axis = 1 if direction == "columns" else 0
    return np.linalg.svd(
        np.concatenate([one.updates()[path] for one in adapters], axis=axis), compute_uv=False
    )


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("method", DROPS)
def test_the_note_names_the_module(method, way, twins):
    report = merged(twins, method=f"knots_{method}", density=0.5, seed=1, **way)
    notes = [note for note in report.notes if "nearly equal" in note]
    assert len(notes) == 1
    assert f"1 module has singular values that are nearly equal ({Q.format(0)})" in notes[0]
    gaps = {module["path"]: module["min_gap"] for module in report.modules}
    assert gaps[Q.format(0)] < 1e-6
    assert gaps[V.format(0)] == pytest.approx(0.25, rel=1e-6)  # 4, 2, 1.5, 0.75


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_sum_is_the_same_in_every_basis(way, twins):
    assert not [n for n in merged(twins, method="knots_linear", **way).notes if "nearly equal" in n]


@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_values_and_gaps_are_of_the_basis(way, direction):
    adapters = [lora(seed) for seed in range(3)]
    report = merged(adapters, method="knots_ties", density=0.5, parameters={"direction": direction}, **way)
    assert not [note for note in report.notes if "nearly equal" in note]
    for module in report.modules:
        sigma = joint(adapters, module["path"], direction)
        sigma = sigma[sigma > 1e-6 * sigma[0]]
        np.testing.assert_allclose(module["sigma"][: len(sigma)], sigma, rtol=1e-6)
        gaps = -np.diff(sigma) / sigma[:-1]
        assert module["min_gap"] == pytest.approx(gaps.min(), rel=1e-3)
        assert module["rank"] == min(way.get("rank", len(sigma)), len(sigma)) or "energy" in way
