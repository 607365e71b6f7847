"""The numbers of a plan in a few words: which model has which weight, which options the method ran with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carrick.plan import Plan

_COPYING = {"copy", "copy_equal", "cast"}

Value = float | bool | str


def options_by_method(plan: Plan) -> dict[str, dict[str, list[Value]]]:
    """Distinct values of each option over the merged tensors, by method, in the plan's order."""
    found: dict[str, dict[str, list[Value]]] = {}
    for job in plan.jobs:
        if job.method in _COPYING:
            continue
        options = found.setdefault(job.method, {})
        for name, value in job.options.items():
            _collect(options.setdefault(name, []), value)
    return found


def parameters_by_model(plan: Plan) -> list[dict[str, list[Value]]]:
    """Distinct values of each parameter over all tensors, for each entry of ``plan.meta["models"]``."""
    owner = _owners(plan)
    found: list[dict[str, list[Value]]] = [{} for _ in plan.meta["models"]]
    for job in plan.jobs:
        for source in job.inputs:
            places = source.places(job.elements)
            if not places:  # zeros: an adapter that does not touch this tensor
                continue
            parameters = found[owner[places[0][0].file]]
            for name, value in (source.parameters or {}).items():
                _collect(parameters.setdefault(name, []), value)
    return found


def copied_from(plan: Plan) -> dict[str, int]:
    """Count the tensors that are one model's as they are, by the model's name; models that give none are left out."""
    owner = _owners(plan)
    found: dict[str, int] = {}
    for job in plan.jobs:
        places = job.inputs[0].places(job.elements) if job.method in _COPYING else []
        if places:
            name = plan.meta["models"][owner[places[0][0].file]]["ref"]
            found[name] = found.get(name, 0) + 1
    return found


def plain(values: list[Value]) -> str:
    """One value, or the range of several.

    Examples
    --------
    >>> plain([0.5]), plain([0.0, 1.0, 0.25]), plain([True]), plain(["sum", "max"])
    ('0.5', '0 to 1 (by tensor)', 'true', 'sum, max (by tensor)')
    """
    if len(values) == 1:
        return _one(values[0])
    numbers = [value for value in values if isinstance(value, float | int) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return f"{_one(min(numbers))} to {_one(max(numbers))} (by tensor)"
    return ", ".join(_one(value) for value in values) + " (by tensor)"


def _owners(plan: Plan) -> dict[int, int]:
    """Return the place in ``plan.meta["models"]`` of the model that each file belongs to."""
    return {file: number for number, model in enumerate(plan.meta["models"]) for file in model["files"]}


def _one(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def _collect(values: list[Value], value: Value) -> None:
    if value not in values:
        values.append(value)
