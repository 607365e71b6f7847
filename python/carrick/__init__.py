"""Merge language-model checkpoints at the speed of the disk, in constant memory.

    >>> import carrick
    >>> report = carrick.merge("config.yml", "merged/")            # doctest: +SKIP
    >>> plan = carrick.plan("config.yml")                          # doctest: +SKIP

Everything is imported when it is first used: ``import carrick`` itself loads nothing else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import carrick.adapters as adapters  # noqa: F401, PLR0402
    import carrick.arrays as arrays  # noqa: F401, PLR0402
    from carrick.checkpoints import open_checkpoint as open  # noqa: A004, F401
    from carrick.errors import CarrickError as CarrickError
    from carrick.errors import ConfigError as ConfigError
    from carrick.errors import FormatError as FormatError
    from carrick.errors import PlanError as PlanError
    from carrick.evaluate import evaluate as evaluate
    from carrick.merge import merge as merge
    from carrick.merge import plan as plan
    from carrick.report import MergeReport as MergeReport
    from carrick.similarity import Similarity as Similarity
    from carrick.similarity import similarity as similarity
    from carrick.train import train as train

__version__ = "0.1.0"

_ORIGIN = {
    "CarrickError": ("carrick.errors", "CarrickError"),
    "ConfigError": ("carrick.errors", "ConfigError"),
    "FormatError": ("carrick.errors", "FormatError"),
    "MergeReport": ("carrick.report", "MergeReport"),
    "PlanError": ("carrick.errors", "PlanError"),
    "Similarity": ("carrick.similarity", "Similarity"),
    "adapters": ("carrick.adapters", None),
    "arrays": ("carrick.arrays", None),
    "evaluate": ("carrick.evaluate", "evaluate"),
    "merge": ("carrick.merge", "merge"),
    "open": ("carrick.checkpoints", "open_checkpoint"),
    "plan": ("carrick.merge", "plan"),
    "similarity": ("carrick.similarity", "similarity"),
    "train": ("carrick.train", "train"),
}

__all__ = [*_ORIGIN, "__version__"]  # noqa: PLE0604  (strings, which the rule cannot see)


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module 'carrick' has no attribute {name!r}")
    module, attribute = _ORIGIN[name]
    value: Any = import_module(module)
    if attribute is not None:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package itself, which keeps ``carrick.merge`` and ``carrick.plan`` functions.

    Importing a submodule sets it as an attribute of its package. The submodules ``merge`` and ``plan`` would
    hide the functions of the same names from then on; they stay reachable by ``from carrick.plan import …``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and _ORIGIN.get(name, ("", None))[1] is not None:
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
