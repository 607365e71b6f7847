"""The oracle's one rounding, against the definition: the nearest value of the type, the even one of two."""

from __future__ import annotations

import numpy as np
import pytest

from oracles.dtypes import NUMPY, narrow


@pytest.mark.parametrize("name", ["BF16", "F16", "F8_E4M3", "F8_E5M2"])
def test_one_rounding(name: str) -> None:
    dtype = NUMPY[name]
    bits = np.arange(2 ** (8 * dtype.itemsize), dtype=np.uint16 if dtype.itemsize == 2 else np.uint8)
    with np.errstate(invalid="ignore"):
        grid = bits.view(dtype).astype(np.float64)
    order = np.argsort(grid[np.isfinite(grid)], kind="stable")
    grid, codes = grid[np.isfinite(grid)][order], bits[np.isfinite(grid)][order]
    low, high = grid[:-1], grid[1:]
    middle = (low + high) / 2
    even = np.where(codes[:-1] % 2 == 0, low, high)
    assert np.array_equal(narrow(grid, dtype).astype(np.float64), grid)
    assert np.array_equal(narrow(middle, dtype).astype(np.float64), even)
    # A hair off the middle: less than float32 can tell.
    hair = np.maximum(np.abs(middle) * 2.0**-50, 2.0**-1000)
    assert np.array_equal(narrow(middle - hair, dtype).astype(np.float64), low)
    assert np.array_equal(narrow(middle + hair, dtype).astype(np.float64), high)


def test_overflow() -> None:
    assert np.isinf(narrow(np.array([65520.0]), NUMPY["F16"])).all()
    assert narrow(np.array([65519.99999999]), NUMPY["F16"]) == 65504
    assert np.isnan(narrow(np.array([465.0]), NUMPY["F8_E4M3"]).astype(np.float32)).all()
    assert np.isinf(narrow(np.array([1e300]), NUMPY["BF16"]).astype(np.float32)).all()
