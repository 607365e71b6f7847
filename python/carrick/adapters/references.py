"""Adapters as a user names them, `path-or-hub-id[@revision][:weight]`, on their way into a configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick.adapters.adapter import read_adapter
from carrick.config.location import Location
from carrick.config.model_ref import AdapterRef, read_adapter_ref, read_model_ref
from carrick.config.objects import read_object
from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from carrick.adapters.adapter import Adapter
    from carrick.adapters.weights import ByModule


def read_references(adapters: Iterable[str | Path | Mapping[str, Any]]) -> list[AdapterRef]:
    """Read references to adapters; the weight is what follows the last colon, when that is a number.

    Examples
    --------
    >>> [(ref.path, ref.weight) for ref in read_references(["en", "de:0.5"])]
    [('en', 1.0), ('de', 0.5)]
    """
    where = Location(key="adapters")
    return [
        read_adapter_ref(read_object(one, where.item(index)), "the reference")
        for index, one in enumerate(adapters)
    ]


def open_reference(ref: AdapterRef) -> Adapter:
    """Read the headers of an adapter that is there, or in the cache by now."""
    return read_adapter(ref.path, revision=ref.revision)


def split_weights(
    adapters: Sequence[str], weights: Sequence[float | ByModule] | None
) -> tuple[list[AdapterRef], Sequence[float | ByModule] | None]:
    """Take the weights of a merge from a list of them, or from the adapters' names.

    Returns
    -------
    The adapters without weights; and their weights, None where none is written.

    Raises
    ------
    ConfigError
        Weights are written in both ways.

    Examples
    --------
    >>> split_weights(["en:0.5", "de"], None)[1], split_weights(["en", "de"], None)[1]
    ([0.5, 1.0], None)
    """
    refs = read_references(adapters)
    plain = [AdapterRef(ref.path, ref.revision, where=ref.where) for ref in refs]
    weighted = [text for text, ref in zip(adapters, plain, strict=True) if text != str(ref)]
    if not weighted:
        return plain, weights
    if weights is not None:
        raise ConfigError(
            f"the weights are given twice, by `{weighted[0]}` and by a list (--weights, weights=…); leave one out"
        )
    return plain, [ref.weight for ref in refs]


def on_base(base: str | Path, adapters: Sequence[AdapterRef]) -> dict[str, Any]:
    """Return a base with adapters on it as a configuration names them; those in `base` itself come first."""
    model = read_model_ref(read_object(str(base), Location(key="base")), "the base", [])
    place = _given({"path": model.path, "revision": model.revision})
    return {"model": place, "lora": [_mapping(ref) for ref in (*model.adapters, *adapters)]}


def _mapping(ref: AdapterRef) -> dict[str, Any]:
    weight = None if ref.weight == 1.0 else ref.weight
    return _given({"path": ref.path, "revision": ref.revision, "weight": weight})


def _given(mapping: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if value is not None}
