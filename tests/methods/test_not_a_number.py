"""How far one NaN or infinity reaches, as docs/methods.md says: its place, its row or column, or its whole tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick import arrays

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

ROW, COLUMN = 1, 2
PLACES = {
    "place": np.s_[ROW, COLUMN],
    "row": np.s_[ROW, :],
    "column": np.s_[:, COLUMN],
    "tensor": np.s_[:, :],
}
MERGES: dict[str, tuple[str, Callable[[Array, Array, Array], Any]]] = {
    "linear": ("place", lambda _base, a, b: arrays.linear([a, b])),
    "ties": ("place", lambda base, a, b: arrays.ties([a, b], base=base, density=0.5)),
    "ties measured": ("tensor", lambda base, a, b: arrays.ties([a, b], base=base, density=0.5, rescale="l1")),
    "ties by density": (
        "place",
        lambda base, a, b: arrays.ties([a, b], base=base, density=0.5, rescale="density"),
    ),
    "dare": ("place", lambda base, a, b: arrays.dare_ties([a, b], base=base, density=1.0)),
    "della": ("place", lambda base, a, b: arrays.della([a, b], base=base, density=1.0)),
    "slerp": ("tensor", lambda base, a, _b: arrays.slerp(base, a, 0.3)),
    "nuslerp": ("tensor", lambda _base, a, b: arrays.nuslerp([a, b])),
    "nuslerp on a base": ("tensor", lambda base, a, b: arrays.nuslerp([a, b], base=base)),
    "nuslerp by rows": ("row", lambda _base, a, b: arrays.nuslerp([a, b], flatten=False)),
    "nuslerp by columns": (
        "column",
        lambda _base, a, b: arrays.nuslerp([a, b], flatten=False, row_wise=True),
    ),
    "model_stock": ("tensor", lambda base, a, b: arrays.model_stock([a, b], base)),
    "model_stock by rows": ("row", lambda base, a, b: arrays.model_stock([a, b], base, filter_wise=True)),
}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", MERGES)
def test_how_far_it_reaches(name: str, value: float) -> None:
    rng = np.random.default_rng(7)
    base, a, b = (rng.standard_normal((4, 6)).astype(np.float32) for _ in range(3))
    a[ROW, COLUMN] = value
    reach, merge = MERGES[name]
    wanted = np.zeros(base.shape, bool)
    wanted[PLACES[reach]] = True
    found = np.asarray(merge(base, a, b))
    np.testing.assert_array_equal(~np.isfinite(found), wanted)
    if reach != "place":
        assert np.isnan(found[wanted]).all()
