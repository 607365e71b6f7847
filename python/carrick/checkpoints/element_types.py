"""The element types of safetensors: how many bits each takes and what may be done with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from carrick.errors import FormatError

if TYPE_CHECKING:
    import numpy as np


class ElementType(NamedTuple):
    """One element type: its size in bits, and whether it is computed with (`float`) or copied."""

    bits: int
    kind: str  # "float": computed with; "integer", "opaque": must be equal in all models, copied
    numpy: str | None  # NumPy or ml_dtypes name; None where NumPy has no such type


ELEMENT_TYPES: dict[str, ElementType] = {
    "F64": ElementType(64, "float", "float64"),
    "F32": ElementType(32, "float", "float32"),
    "F16": ElementType(16, "float", "float16"),
    "BF16": ElementType(16, "float", "bfloat16"),
    "F8_E4M3": ElementType(8, "float", "float8_e4m3fn"),
    "F8_E5M2": ElementType(8, "float", "float8_e5m2"),
    "I64": ElementType(64, "integer", "int64"),
    "I32": ElementType(32, "integer", "int32"),
    "I16": ElementType(16, "integer", "int16"),
    "I8": ElementType(8, "integer", "int8"),
    "U64": ElementType(64, "integer", "uint64"),
    "U32": ElementType(32, "integer", "uint32"),
    "U16": ElementType(16, "integer", "uint16"),
    "U8": ElementType(8, "integer", "uint8"),
    "BOOL": ElementType(8, "integer", "bool"),
    "F8_E8M0": ElementType(8, "opaque", "float8_e8m0fnu"),
    "F8_E4M3FNUZ": ElementType(8, "opaque", "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": ElementType(8, "opaque", "float8_e5m2fnuz"),
    "F6_E2M3": ElementType(6, "opaque", None),
    "F6_E3M2": ElementType(6, "opaque", None),
    "F4": ElementType(4, "opaque", None),
    "C64": ElementType(64, "opaque", "complex64"),
}


def is_float(dtype: str) -> bool:
    """Whether arithmetic is done on this element type.

    >>> is_float("BF16"), is_float("I64"), is_float("F8_E8M0")
    (True, False, False)
    """
    return ELEMENT_TYPES[dtype].kind == "float"


def element_size(dtype: str) -> int:
    """Bytes of one element; 1 for packed types, whose elements are only ever copied.

    >>> element_size("BF16"), element_size("F4")
    (2, 1)
    """
    return max(1, ELEMENT_TYPES[dtype].bits // 8)


def byte_count(dtype: str, elements: int) -> int:
    """Bytes that `elements` of a type take, packed types included.

    >>> byte_count("F32", 10), byte_count("F4", 10)
    (40, 5)
    """
    return ELEMENT_TYPES[dtype].bits * elements // 8


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """Look up the NumPy dtype (through ml_dtypes for bfloat16 and float8) of an element type.

    Raises
    ------
    FormatError
        Packed types (F4, F6) have no NumPy dtype.
    """
    import numpy as np  # noqa: PLC0415  (planning does without NumPy)

    name = ELEMENT_TYPES[dtype].numpy
    if name is None:
        raise FormatError(
            f"{dtype} is packed below a byte and has no NumPy type; `raw(name)` gives its bytes"
        )
    if name == "bfloat16" or name.startswith("float8"):
        import ml_dtypes  # noqa: PLC0415

        extended: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return extended
    return np.dtype(name)
