"""LoRA adapters: read from PEFT folders, written as PEFT folders.

Everything is imported when it is first used: ``import carrick.adapters`` itself loads nothing else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrick.adapters.adapter import Adapter as Adapter
    from carrick.adapters.adapter import LoraModule as LoraModule
    from carrick.adapters.adapter import TrainableTokens as TrainableTokens
    from carrick.adapters.adapter import read_adapter as read
    from carrick.adapters.apply import apply as apply
    from carrick.adapters.config import AdapterConfig as AdapterConfig
    from carrick.adapters.extract import extract as extract
    from carrick.adapters.inspect import inspect as inspect
    from carrick.adapters.merge import merge as merge
    from carrick.similarity import similarity as similarity

_ORIGIN = {
    "Adapter": ("carrick.adapters.adapter", "Adapter"),
    "AdapterConfig": ("carrick.adapters.config", "AdapterConfig"),
    "LoraModule": ("carrick.adapters.adapter", "LoraModule"),
    "TrainableTokens": ("carrick.adapters.adapter", "TrainableTokens"),
    "apply": ("carrick.adapters.apply", "apply"),
    "extract": ("carrick.adapters.extract", "extract"),
    "inspect": ("carrick.adapters.inspect", "inspect"),
    "merge": ("carrick.adapters.merge", "merge"),
    "read": ("carrick.adapters.adapter", "read_adapter"),
    "similarity": ("carrick.similarity", "similarity"),
}

__all__ = [
    "Adapter", "AdapterConfig", "LoraModule", "TrainableTokens", "apply", "extract", "inspect", "merge", "read",
    "similarity",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module 'carrick.adapters' has no attribute {name!r}")
    module, attribute = _ORIGIN[name]
    value: Any = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package itself, which keeps ``carrick.adapters.merge`` and its like functions, as `carrick` does."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _ORIGIN:
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
