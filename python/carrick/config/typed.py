"""Recipes as pydantic models: values from YAML or Python, errors with file, line and the nearest valid name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from carrick.config.location import Location
from carrick.config.objects import plain, read_object
from carrick.config.tree import ListNode, MapNode, Node, as_map, shown
from carrick.config.yaml_text import read_text
from carrick.suggestions import nearest, nearest_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

    from carrick.errors import ConfigError


class Recipe(BaseModel):
    """The base of every typed recipe: unknown keys are errors, values keep their types, nothing changes later."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


R = TypeVar("R", bound=Recipe)


def load_typed(
    source: str | os.PathLike[str] | Mapping[str, object], recipe: type[R], what: str, *, first: str = ""
) -> R:
    """Return a YAML file or a mapping of the same shape as a checked recipe.

    Parameters
    ----------
    source
        The path of a YAML file of one document, or a mapping.
    recipe
        What it is read as.
    what
        What messages call it, such as ``a training recipe``.
    first
        What an empty file is to begin with, for the message that says so.

    Raises
    ------
    ConfigError
        Anything in it that is unknown, misspelt, missing or out of range, with file and line (or the path of
        keys).

    Examples
    --------
    >>> class Step(Recipe):
    ...     rank: int
    >>> load_typed({"rank": 8}, Step, "a step")
    Step(rank=8)
    >>> load_typed({"rnak": 8}, Step, "a step")
    Traceback (most recent call last):
    carrick.errors.ConfigError: rnak: `rnak` is not a key of a step; did you mean `rank`?
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        where = Location(file=str(path))
        trees = read_text(_text(path, where), str(path), first=first or f"the keys of {what}")
        if len(trees) != 1:
            raise where.error(f"{what} is one YAML document; the file holds {len(trees)}")
        tree = trees[0]
    else:
        tree = read_object(source, Location())
    as_map(tree, what)
    try:
        return recipe.model_validate(plain(tree))
    except ValidationError as error:
        raise _first(error, tree, recipe, what) from None


def _text(path: Path, where: Location) -> str:
    if path.is_dir():
        raise where.error("this is a folder; give the YAML file itself")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise where.error(f"there is no such file{nearest_file(path)}") from None
    except UnicodeDecodeError as error:
        raise where.error(f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _first(error: ValidationError, tree: Node, recipe: type[Recipe], what: str) -> ConfigError:
    """Return the first thing that pydantic found wrong; an unknown key before what it left missing."""
    found = sorted(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    first = found[0]
    node, where, path = _find(tree, first["loc"])
    name = ".".join(path)
    if first["type"] == "extra_forbidden":
        known = _keys(recipe, first["loc"][:-1])
        inside = f"`{'.'.join(path[:-1])}`" if path[:-1] else what
        hint = nearest(path[-1], known) or (f"; the keys here are {', '.join(known)}" if known else "")
        return where.error(f"`{path[-1]}` is not a key of {inside}{hint}")
    if first["type"] == "missing":
        inside = f"`{'.'.join(path)}`" if path else what
        return where.error(f"`{first['loc'][-1]}` is missing from {inside}")
    return where.error(_sentence(first, name, node, what))


def _sentence(found: ErrorDetails, name: str, node: Node, what: str) -> str:
    message = found["msg"]
    if found["type"] == "value_error":  # raised by a validator of ours, whose text is a sentence already
        return message.removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    subject = f"`{name}` is {shown(node)}" if name else what
    if found["type"] in {"literal_error", "enum"} and isinstance(found.get("input"), str):
        expected = str(found["ctx"]["expected"]).replace(" or ", ", ")
        choices = [choice.strip("'") for choice in expected.split(", ")]
        return f"{subject}{nearest(found['input'], choices) or '; it can be ' + ', '.join(choices)}"
    return f"{subject}: {message}"


def _find(tree: Node, loc: Sequence[int | str]) -> tuple[Node, Location, list[str]]:
    """Follow pydantic's path as far as the text goes; steps of unions that are no keys are passed over."""
    node, where, path = tree, tree.where, []
    for step in loc:
        if isinstance(node, MapNode) and isinstance(step, str) and step in node.entries:
            where, node = node.keys[step], node.entries[step]
            path.append(step)
        elif isinstance(node, ListNode) and isinstance(step, int) and step < len(node.items):
            node = node.items[step]
            where = node.where
            path[-1:] = [f"{path[-1]}[{step}]"] if path else [f"[{step}]"]
    return node, where, path


def _keys(recipe: type[BaseModel], loc: Sequence[int | str]) -> list[str]:
    """Keys of the model that lies at the end of a path."""
    models: list[type[BaseModel]] = [recipe]
    for step in loc:
        fields = [model.model_fields[step].annotation for model in models if step in model.model_fields]
        if fields:
            models = [model for field in fields for model in _models(field)]
    return list(dict.fromkeys(name for model in models for name in model.model_fields))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """Every model that an annotation such as ``list[A | B] | None`` mentions."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]
