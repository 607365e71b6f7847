"""The names of element types: mergekit's (`bfloat16`) and those of safetensors (`BF16`)."""

from __future__ import annotations

from carrick.config.tree import Node, as_text
from carrick.suggestions import nearest

DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}
"""The types that can be computed with, torch's name → safetensors' name."""

DTYPE_NAMES = (*DTYPES, *DTYPES.values())


def read_dtype(node: Node, key: str) -> str:
    """Return the safetensors name of a written element type, or raise with the nearest name."""
    name = as_text(node, f"`{key}`")
    if name not in DTYPE_NAMES:
        hint = nearest(name, DTYPE_NAMES) or f"; the types with arithmetic are {', '.join(DTYPE_NAMES)}"
        raise node.where.error(f"`{key}` is `{name}`, which is not a type to merge in{hint}")
    return DTYPES.get(name, name)
