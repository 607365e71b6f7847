"""The `parameters` mapping of each level: every key known to the method, where it means something."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from carrick import methods
from carrick.config.adapter import OF_CHECKPOINTS
from carrick.config.keys import MERGEKIT_PARAMETERS, TOP_KEYS
from carrick.config.settings import Setting, Settings, read_setting
from carrick.config.tree import Node, as_map, is_null
from carrick.suggestions import nearest_name

if TYPE_CHECKING:
    from carrick.config.location import Location
    from carrick.errors import ConfigError
    from carrick.methods import Method

Level = Literal["document", "slice", "model"]
_REACH = {"global": "one value for all models of a tensor", "merge": "one value for the whole merge"}
LEVELS: dict[str, tuple[Level, ...]] = {
    "model": ("document", "slice", "model"),
    "global": ("document", "slice"),
    "merge": ("document",),
}


def read_parameters(
    node: Node | None, method: Method, level: Level, notes: list[str], also: tuple[str, ...] = ()
) -> Settings:
    """Return the settings of one `parameters` mapping.

    Parameters
    ----------
    node
        The mapping, None where there is none.
    method
        Whose parameters they are.
    level
        Where the mapping stands: for the whole document, for a slice, for a model.
    notes
        Gets a sentence for each key that changes nothing.
    also
        Keys that the caller reads on its own.
    """
    if node is None:
        return {}
    mapping = as_map(node, "`parameters`")
    settings: dict[str, Setting] = {}
    for name, value in mapping.entries.items():
        where = mapping.keys[name]
        if name in also:
            continue
        parameter = method.parameter(name)
        if parameter is None:
            if name not in MERGEKIT_PARAMETERS and name not in method.ignored:
                raise _unknown(name, method, where, also)
            notes.append(where.note(f"`{name}` changes nothing in `{method.name}` and is ignored."))
        elif level not in LEVELS[parameter.scope]:
            reach = _REACH[parameter.scope]
            raise where.error(
                f"`{name}` is {reach}; write it under `parameters` of the document, not of a {level}"
            )
        elif is_null(value):
            raise where.error(f"`{name}` has no value; it has to be {parameter.span}")
        else:
            settings[name] = read_setting(value, parameter, where)
    return settings


def _unknown(name: str, method: Method, where: Location, also: tuple[str, ...]) -> ConfigError:
    # Every method reads `variant`, if only to say that it has none.
    beside = (key for key in also if key != "variant" or method.variants)
    own = (*(parameter.name for parameter in method.parameters), *beside)
    if name in TOP_KEYS:
        return where.error(
            f"`{name}` is not a parameter; write it at the top of the document, not under `parameters`"
        )
    if name in OF_CHECKPOINTS and methods.load()[method.name].parameter(name) is not None:
        return where.error(
            f"`{name}` belongs to a merge of checkpoints, and the models listed here are adapters: "
            f"{OF_CHECKPOINTS[name]}; remove it"
        )
    takers = [other.name for other in methods.load().values() if other.parameter(name) is not None]
    if takers:
        return where.error(
            f"`{name}` is not a parameter of `{method.name}` ({', '.join(takers)} "
            f"{'take' if len(takers) > 1 else 'takes'} it); "
            f"remove it, or use one of {', '.join(own)}"
        )
    found = nearest_name(name, own)
    hint = f"did you mean `{found}`?" if found else f"its parameters are {', '.join(own)}"
    return where.error(f"`{name}` is not a parameter of `{method.name}`; {hint}")
