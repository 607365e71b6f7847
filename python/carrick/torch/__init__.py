"""Adapter merges on a device: batched decompositions with torch, and a bridge to a live PeftModel.

    >>> from carrick.torch import add_merged_adapter
    >>> add_merged_adapter(model, ["en", "de"], method="knots_ties", density=0.2)        # doctest: +SKIP

Needs torch (``pip install "carrick[torch]"``), which is imported when one of these names is first used. Results agree
with those of the command line to a tolerance, not to the byte: a decomposition on a GPU rounds in its own order.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from carrick.errors import CarrickError

if TYPE_CHECKING:
    from carrick.torch.joint import joint_svd as joint_svd
    from carrick.torch.merge import merge_on_device as merge_on_device
    from carrick.torch.modules import Module as Module
    from carrick.torch.modules import Place as Place
    from carrick.torch.modules import Term as Term
    from carrick.torch.modules import stored_module as stored_module
    from carrick.torch.options import Options as Options
    from carrick.torch.options import read_options as read_options
    from carrick.torch.peft_model import add_merged_adapter as add_merged_adapter
    from carrick.torch.results import Diagnostics as Diagnostics
    from carrick.torch.results import Merged as Merged
    from carrick.torch.truncate import truncated as truncated
    from carrick.torch.truncate import truncated_dense as truncated_dense

_ORIGIN = {
    "Diagnostics": "results",
    "Merged": "results",
    "Module": "modules",
    "Options": "options",
    "Place": "modules",
    "Term": "modules",
    "add_merged_adapter": "peft_model",
    "joint_svd": "joint",
    "merge_on_device": "merge",
    "read_options": "options",
    "stored_module": "modules",
    "truncated": "truncate",
    "truncated_dense": "truncate",
}

__all__ = [*_ORIGIN]  # noqa: PLE0604  (strings, which the rule cannot see)


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module 'carrick.torch' has no attribute {name!r}")
    try:
        value = getattr(import_module(f"carrick.torch.{_ORIGIN[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise CarrickError(
            f'`carrick.torch.{name}` needs torch, which is not installed; pip install "carrick[torch]"'
        ) from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
