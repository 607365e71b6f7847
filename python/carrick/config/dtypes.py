"""The names of element types: torch's (`bfloat16`), safetensors' (`BF16`), and the short ones that people write."""

from __future__ import annotations

from carrick.config.tree import Node, as_text
from carrick.suggestions import nearest

# The types that can be computed with: safetensors' name → torch's, then what else they are called.
_SPELLINGS = {
    "F64": ("float64", "f64", "fp64", "FP64", "double"),
    "F32": ("float32", "f32", "fp32", "FP32", "float"),
    "F16": ("float16", "f16", "fp16", "FP16", "half"),
    "BF16": ("bfloat16", "bf16"),
    "F8_E4M3": ("float8_e4m3fn", "f8_e4m3", "fp8_e4m3"),
    "F8_E5M2": ("float8_e5m2", "f8_e5m2", "fp8_e5m2"),
}
_STORED = {
    spelling: stored
    for stored, names in _SPELLINGS.items()
    for spelling in (names[0], stored, *names[1:], f"torch.{names[0]}")
}
DTYPE_NAMES = tuple(_STORED)
"""Everything that an element type may be called."""


def read_dtype(node: Node, key: str) -> str:
    """Return the safetensors name of a written element type, or raise with the nearest name.

    Examples
    --------
    >>> from carrick.config.location import Location
    >>> from carrick.config.tree import Scalar
    >>> [read_dtype(Scalar(name, Location()), "dtype") for name in ("bfloat16", "bf16", "BF16", "torch.bfloat16")]
    ['BF16', 'BF16', 'BF16', 'BF16']
    """
    name = as_text(node, f"`{key}`")
    if name not in _STORED:
        types = [names[0] for names in _SPELLINGS.values()]
        hint = (
            nearest(name, types)
            or nearest(name, _STORED)
            or f"; the types with arithmetic are {', '.join(types)}"
        )
        raise node.where.error(f"`{key}` is `{name}`, which is not a type to merge in{hint}")
    return _STORED[name]
