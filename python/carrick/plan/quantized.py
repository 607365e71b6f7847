"""Quantised checkpoints are refused by tensor name: a payload or a scale is not a weight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.errors import PlanError

if TYPE_CHECKING:
    from carrick.checkpoints.checkpoint import Checkpoint

_SUFFIXES = (
    "_scale_inv",
    ".weight_scale",
    ".weight_scale_2",
    ".scale",
    ".scales",
    ".input_scale",
    ".output_scale",
    ".qweight",
    ".qzeros",
    ".weight_packed",
    ".absmax",
    ".quant_map",
    "_blocks",
    "_scales",
)
# `.scale` is also a learned parameter (a layer scale); it is a quantiser's beside a payload of its own alone.
_AMBIGUOUS = (".scale", ".scales", "_scales", "_blocks", ".input_scale", ".output_scale")
_PAYLOADS = ("F8_", "F4", "F6_", "I8", "U8", "I32")


def refuse_quantized(checkpoint: Checkpoint) -> None:
    """Refuse a checkpoint whose numbers mean something only together with scales.

    Raises
    ------
    PlanError
        config.json has a `quantization_config`, or a scale lies beside its tensor.
    """
    scaled = _first_scaled(checkpoint)
    config = checkpoint.quantization_config
    if scaled is None and config is None:
        return
    if scaled is None:
        scaled = next((n for n, t in checkpoint.tensors.items() if t.dtype.startswith(_PAYLOADS)), None)
    method = (config or {}).get("quant_method") or (config or {}).get("quantization_method")
    how = f" ({method})" if isinstance(method, str) else ""
    named = f"tensor {scaled!r} in {checkpoint.file_of(scaled)} is" if scaled else "its weights are"
    said = "" if config is None else "config.json has a quantization_config" + how + ", so "
    raise PlanError(
        f"{checkpoint.ref}: {said}{named} quantised, and merging quantised weights is not supported; "
        "give the model's unquantised checkpoint, or dequantise it first"
        + ("" if scaled else " (remove the entry from config.json if the weights are plain)")
    )


def _first_scaled(checkpoint: Checkpoint) -> str | None:
    tensors = checkpoint.tensors
    for name in [n for n in tensors if n.endswith(_SUFFIXES)]:
        for suffix in _SUFFIXES:
            if not name.endswith(suffix):
                continue
            stem = name[: -len(suffix)]
            if suffix not in _AMBIGUOUS:
                return stem + ".weight" if stem + ".weight" in tensors else stem if stem in tensors else name
            for payload in (f"{stem}.weight", stem, f"{stem}_blocks", f"{stem}.qweight"):
                held = tensors.get(payload)
                if held is not None and payload != name and held.dtype.startswith(_PAYLOADS):
                    return payload
    return None
