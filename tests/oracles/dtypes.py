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
    """Float64 values in an output type, rounded once, to nearest even; overflow as ml_dtypes has it.

    Monotone, so that the images of an interval's ends enclose the image of all that lies in it. ml_dtypes goes
    through float32 on its way from float64 to the narrow types; rounding to odd there makes the second rounding
    right (float32 has more than two bits to spare over every narrow type).
    """
    with np.errstate(all="ignore"):
        single = values.astype(np.float32)
        if dtype == np.float64:
            return values.astype(np.float64)
        if dtype == np.float32:
            return single
        inexact = np.isfinite(values) & (single.astype(np.float64) != values)
        outward = inexact & (np.abs(single.astype(np.float64)) > np.abs(values))
        single = np.where(outward, np.nextafter(single, np.float32(0)), single)
        odd = (single.view(np.uint32) | inexact.astype(np.uint32)).view(np.float32)
        return odd.astype(dtype)
