"""Where a merge of several documents comes from: the inputs of its intermediates, which are gone in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from carrick.plan import Plan


def attach_provenance(plan: Plan, planned: Mapping[str | None, Plan], sources: Iterable[str]) -> None:
    """Write into a plan which models its intermediates are made of, and all that its configuration names.

    Parameters
    ----------
    plan
        Gets `series` in its `meta`, unless the configuration is a single document.
    planned
        The plans of all documents, by name.
    sources
        Names of the documents that go into this one, by way of others as well.
    """
    if len(planned) == 1:
        return
    plan.meta["series"] = {
        "sources": _distinct(model for name in sources for model in _inputs(planned[name])),
        "named": _distinct(
            model for other in planned.values() for model in (*_inputs(other), other.meta["tokenizer"])
        ),
    }


def real_models(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the models that a merge comes from: those of its intermediates first, then its own."""
    own = [model for model in meta["models"] if not model.get("intermediate")]
    return [*meta.get("series", {}).get("sources", []), *own]


def named_models(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return every model that the configuration's text may name, the tokenizer's source among them."""
    return [*meta.get("series", {}).get("named", []), *meta["models"], meta["tokenizer"]]


def _inputs(plan: Plan) -> list[dict[str, Any]]:
    return [model for model in plan.meta["models"] if not model.get("intermediate")]


def _distinct(models: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Names and places of models, each once."""
    found: list[dict[str, Any]] = []
    for model in models:
        entry = {key: model[key] for key in ("ref", "folder", "revision")}
        adapters = model.get("adapters", [])
        if adapters:
            entry["adapters"] = [
                {key: adapter[key] for key in ("ref", "folder", "revision", "weight")} for adapter in adapters
            ]
        if entry not in found:
            found.append(entry)
    return found
