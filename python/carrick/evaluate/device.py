"""Which device a model runs on, and in which precision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from carrick.errors import ConfigError

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16", "float16")


def choose_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is a GPU where there is one.

    Raises
    ------
    ConfigError
        No such device, or no GPU where one is demanded.
    """
    import torch  # noqa: PLC0415  (an extra)

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    from carrick.torch.device import find_device  # noqa: PLC0415

    return find_device(name, also=("auto",))


def element_type(precision: str, device: torch.device) -> Any:
    """Return what transformers loads the weights as: ``auto`` is float32 on a CPU, the stored type on a GPU.

    Raises
    ------
    ConfigError
        An unknown precision.
    """
    import torch  # noqa: PLC0415

    if precision not in PRECISIONS:
        raise ConfigError(f"precision is `{precision}`; it is one of {', '.join(PRECISIONS)}")
    if precision == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, precision)
