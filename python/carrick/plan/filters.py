"""Filters of a configuration's values that are in no name: told, since nothing else would show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from carrick.suggestions import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from carrick.config import Document
    from carrick.config.location import Location
    from carrick.plan.lineup import Models
    from carrick.plan.match import Matched

_NAMED = 12


class Unmatched(NamedTuple):
    """A filter that is in no name, the parameter that it is of, and where it is written."""

    part: str
    parameter: str
    where: Location


def check_filters(document: Document, models: Models, matched: Matched) -> list[str]:
    """Return a note about each `filter` that is in no name, with what it may be a misspelling of.

    It is no mistake in mergekit, whose configurations are carried from model to model: `mlp` is in no name of a
    Mixtral, `self_attn` in none of a GPT-2, `lm_head` in none of a model that has no head of its own.
    """
    names = {name for target in matched.targets for name in (target.name, *target.names)}
    names |= {str(record["tensor"]) for record in matched.unmatched}
    names |= {name for model in models.distinct for name in model.left_out}  # tied heads
    notes = []
    for one in unmatched_filters(document, names):
        told = f"the `filter` {one.part!r} of `{one.parameter}` is in the name of no tensor of the merge"
        near = nearest_part(one.part, names) or f"; their parts are {listed_parts(names)}."
        notes.append(one.where.note(f"{told} and changes nothing{near}"))
    return notes


def unmatched_filters(document: Document, names: Collection[str]) -> Iterator[Unmatched]:
    """Find the filters of a document that are part of none of the names."""
    for level in document.levels:
        for parameter, setting in level.items():
            for condition in setting.conditions:
                if not any(condition.fits(name) for name in names):
                    yield Unmatched(condition.part or "", parameter, condition.where)


def nearest_part(part: str, names: Iterable[str]) -> str:
    """Suggest the part of a name that is most like a filter, of as many words as it has; empty if none is near.

    Examples
    --------
    >>> nearest_part("mpl", ["model.layers.0.mlp.up_proj.weight"])
    '; did you mean `mlp`?'
    >>> nearest_part("self_attn.q_prj", ["model.layers.0.self_attn.q_proj.weight"])
    '; did you mean `self_attn.q_proj`?'
    """
    length = part.strip(".").count(".") + 1
    paths = [name.split(".") for name in names]
    ends = {".".join(path[-length - 1 : -1]) for path in paths if len(path) > length}
    runs = {".".join(path[i : i + length]) for path in paths for i in range(len(path) - length + 1)}
    return nearest(part, sorted(ends)) or nearest(part, sorted(runs))


def listed_parts(names: Iterable[str]) -> str:
    """List what weights are called, without the modules around them."""
    listed = sorted({name.rpartition(".")[0].rpartition(".")[2] or name for name in names})
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return f"{', '.join(listed[:_NAMED])}{more}"
