"""Element types: names of the safetensors format, NumPy types, the working precision of a merge."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, Any]

NUMPY: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in NUMPY.items()}
FLOATS = ("F32", "BF16", "F16", "F64", "F8_E4M3", "F8_E5M2")


def working(*arrays: Array) -> np.dtype[Any]:
    """float64 if any input is F64, else float32."""
    return np.dtype(np.float64 if any(a.dtype == np.float64 for a in arrays) else np.float32)


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Largest relative error of one rounding to nearest."""
    return 2.0**-53 if dtype == np.float64 else 2.0**-24


def smallest(dtype: np.dtype[Any]) -> float:
    """The smallest subnormal: what a product may lose to underflow."""
    return 2.0**-1074 if dtype == np.float64 else 2.0**-149


def narrow(values: Array, dtype: np.dtype[Any]) -> Array:
    """Float64 values in an output type, by way of float32, rounded and overflowing as ml_dtypes does.

    Monotone, so that the images of an interval's ends enclose the image of all that lies in it.
    """
    with np.errstate(all="ignore"):
        if dtype == np.float64:
            return values.astype(np.float64)
        return values.astype(np.float32).astype(dtype)
