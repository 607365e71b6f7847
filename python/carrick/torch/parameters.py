"""A method's parameters under the names that `carrick methods` lists, as options of a merge on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from carrick.errors import ConfigError

_TOLERANCE = 1e-6
_CUTS = ("relative", "absolute")


def options_of(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return parameters as `read_options` names them.

    Raises
    ------
    ConfigError
        They are no mapping, or `rank_cut` is neither of the two.

    Examples
    --------
    >>> options_of({"lambda": 0.6, "rank_cut": "absolute", "rank_tolerance": 1e-5})
    {'lambda_': 0.6, 'tolerance': 0.0, 'absolute_tolerance': 1e-05}
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise ConfigError(f"`parameters` is {parameters!r}; give a mapping of names to values")
    given = dict(parameters)
    if "lambda" in given:
        given["lambda_"] = given.pop("lambda")
    cut = given.pop("rank_cut", "relative")
    if cut not in _CUTS:
        raise ConfigError(f"`rank_cut` is {cut!r}; it is one of {', '.join(_CUTS)}")
    if cut == "absolute":
        given |= {"tolerance": 0.0, "absolute_tolerance": given.pop("rank_tolerance", _TOLERANCE)}
    elif "rank_tolerance" in given:
        given["tolerance"] = given.pop("rank_tolerance")
    return given


def with_parameters(options: Mapping[str, Any], parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return options and parameters together; an option that is None counts as not given.

    Raises
    ------
    ConfigError
        One is given in both ways.

    Examples
    --------
    >>> with_parameters({"density": None, "rank": 4}, {"density": 0.2, "lambda": 0.6})
    {'rank': 4, 'density': 0.2, 'lambda_': 0.6}
    """
    given = {name: value for name, value in options.items() if value is not None}
    named = options_of(parameters)
    for name in named:
        if name in given:
            raise ConfigError(
                f"`{name.rstrip('_')}` is given twice, by itself and among the parameters; give it once"
            )
    return given | named
