"""Evaluation of models: metrics, statistics, perplexity, and tasks of lm-evaluation-harness over local files.

Everything is imported when it is first used: ``import carrick.evaluate`` itself loads nothing else.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrick.evaluate.perplexity import Perplexity as Perplexity
    from carrick.evaluate.perplexity import perplexity as perplexity
    from carrick.evaluate.report import EvaluationReport as EvaluationReport
    from carrick.evaluate.report import Score as Score
    from carrick.evaluate.report import TaskResult as TaskResult
    from carrick.evaluate.report import read_report as read_report
    from carrick.evaluate.run import evaluate as evaluate

_ORIGIN = {
    "EvaluationReport": "carrick.evaluate.report",
    "Perplexity": "carrick.evaluate.perplexity",
    "Score": "carrick.evaluate.report",
    "TaskResult": "carrick.evaluate.report",
    "evaluate": "carrick.evaluate.run",
    "perplexity": "carrick.evaluate.perplexity",
    "read_report": "carrick.evaluate.report",
}

__all__ = [
    "EvaluationReport", "Perplexity", "Score", "TaskResult", "evaluate", "perplexity", "read_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ORIGIN:
        raise AttributeError(f"module 'carrick.evaluate' has no attribute {name!r}")
    value: Any = getattr(import_module(_ORIGIN[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package itself, which keeps ``carrick.evaluate.perplexity`` a function, as `carrick` does."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _ORIGIN:
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
