"""A merge of adapters that arguments ask for, as the configuration that a YAML file would hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from carrick import methods
from carrick.adapters.weights import read_weights
from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carrick.adapters.weights import ByModule


def document_of(
    adapters: Sequence[str],
    *,
    method: str,
    weights: Sequence[float | ByModule] | None = None,
    density: float | None = None,
    variant: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    top: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a request down as the configuration that a YAML file would hold.

    Raises
    ------
    ConfigError
        Weights that are not one for each adapter, parameters without names, or a trim without a density.

    Examples
    --------
    >>> document_of(["en", "de"], method="ties", density=0.5, weights=[1, 2])["models"][1]
    {'model': 'de', 'parameters': {'weight': 2.0}}
    """
    if not adapters:
        raise ConfigError("no adapters are given; name at least one")
    given = read_weights(weights, len(adapters))
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ConfigError(f"`parameters` is {parameters!r}; give a mapping of names to values")
    known = methods.load().get(method)
    own = dict(parameters or {})
    if density is not None:
        if "density" in own:
            raise ConfigError(
                "the density is given twice, by itself and among the parameters (-p density=…); give one"
            )
        own["density"] = density
    if known is not None and known.parameter("density") is not None and "density" not in own:
        raise ConfigError(
            f"`{method}` needs a density: the fraction of each update that it keeps (--density D, density=D)"
        )
    models = []
    for place, adapter in enumerate(adapters):
        entry: dict[str, Any] = {"model": adapter}
        if given is not None:
            entry["parameters"] = {"weight": given[place]}
        models.append(entry)
    content = {"merge_method": method, "models": models, "parameters": own, "variant": variant, **(top or {})}
    return {key: value for key, value in content.items() if value is not None}
