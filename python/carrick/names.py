"""Names of models that mean the same on every machine: no absolute path ever enters an output."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def public_name(model: Mapping[str, Any]) -> str:
    """Name a model or an adapter as the card and the record do.

    Parameters
    ----------
    model
        An entry of ``plan.meta["models"]``, or of its ``adapters``.

    Returns
    -------
    str
        A Hub id as it is; of a folder or file its own name.

    Examples
    --------
    >>> public_name({"ref": "org/model", "revision": "0123abcd", "folder": "/cache/snapshots/0123abcd"})
    'org/model'
    >>> public_name({"ref": "../models/base/", "revision": None, "folder": "/data/models/base"})
    'base'
    """
    ref = str(model["ref"])
    if model.get("revision") is not None:
        return ref
    if ref.endswith((".safetensors", ".safetensors.index.json")):
        return Path(ref).name
    return Path(model["folder"]).name


def full_name(model: Mapping[str, Any]) -> str:
    """Name a model with its adapters and their weights.

    Examples
    --------
    >>> adapter = {"ref": "/data/math", "revision": None, "folder": "/data/math", "weight": 0.5}
    >>> base = {"ref": "org/model", "revision": "0123abcd", "folder": "/cache/snapshots/0123abcd"}
    >>> full_name({**base, "adapters": [adapter]})
    'org/model+math:0.5'
    """
    names = [public_name(model)]
    for adapter in model.get("adapters", []):
        weight = "" if adapter["weight"] == 1.0 else f":{adapter['weight']:g}"
        names.append(public_name(adapter) + weight)
    return "+".join(names)


def without_paths(text: str, models: Iterable[Mapping[str, Any]]) -> str:
    r"""Replace the absolute paths of models in a configuration's text by their names.

    Relative paths stay: they are the same wherever the models and the configuration stand together.

    Examples
    --------
    >>> models = [{"ref": "/data/a", "revision": None, "folder": "/data/a"}]
    >>> without_paths("- model: /data/a\n- model: /data/ab\n", models)
    '- model: a\n- model: /data/ab\n'
    """
    everyone = [one for model in models for one in (model, *model.get("adapters", []))]
    names = {str(one["ref"]): public_name(one) for one in everyone}
    for ref in sorted(names, key=len, reverse=True):
        if Path(ref).is_absolute() or ref.startswith("~"):
            name = names[ref].replace("\\", r"\\")
            text = re.sub(rf"(?<![\w./-]){re.escape(ref)}(?![\w./-])", name, text)
    return text
