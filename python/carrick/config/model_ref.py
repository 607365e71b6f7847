"""References to models: `path-or-hub-id[@revision][+adapter[@revision][:weight]]…`, or the same as a mapping."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from carrick.config.location import Location
from carrick.config.tree import ListNode, MapNode, Node, Scalar, as_list, as_map, as_text, shown
from carrick.finite import is_finite

REFERENCE_KEYS = {
    "model": "The checkpoint: `path` and, for the Hub, `revision`.",
    "lora": "A LoRA adapter to put on it, or a list of several; each a text or a mapping.",
    "override_architecture": "mergekit's name of an architecture; changes nothing.",
}
PATH_KEYS = {
    "path": "A folder, a safetensors file, or the id of a model of the Hub.",
    "revision": "Branch, tag or commit of the Hub.",
}
ADAPTER_PATH_KEYS = {
    "path": "A PEFT folder, or the id of an adapter of the Hub.",
    "revision": "Branch, tag or commit of the Hub.",
    "weight": "Factor of everything that the adapter changes; 1 by default.",
}
_WEIGHT = re.compile(r"(.+):([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)", re.ASCII | re.DOTALL)
# A plus between adapters, not the one of an exponent: `adapter:1e+2`.
_PLUS = re.compile(r"(?<![\d.][eE])\+")


@dataclass(frozen=True, slots=True)
class AdapterRef:
    """A LoRA adapter as it was written: a folder or a Hub id, a revision of the latter, and its weight.

    Examples
    --------
    >>> str(AdapterRef("org/adapter", "main", 0.5))
    'org/adapter@main:0.5'
    """

    path: str
    revision: str | None = None
    weight: float = 1.0
    where: Location = field(default_factory=Location, compare=False, repr=False)

    def __str__(self) -> str:
        place = self.path if self.revision is None else f"{self.path}@{self.revision}"
        return place if self.weight == 1.0 else f"{place}:{weight_text(self.weight)}"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as it was written: a local path or a Hub id, a revision of the latter, and adapters on top.

    Examples
    --------
    >>> str(ModelRef("org/model", "main"))
    'org/model@main'
    >>> str(ModelRef("base", adapters=(AdapterRef("math"), AdapterRef("code", weight=0.5))))
    'base+math+code:0.5'
    """

    path: str
    revision: str | None = None
    where: Location = field(default_factory=Location, compare=False, repr=False)
    adapters: tuple[AdapterRef, ...] = ()

    def __str__(self) -> str:
        model = self.path if self.revision is None else f"{self.path}@{self.revision}"
        return "+".join([model, *map(str, self.adapters)])


def weight_text(weight: float) -> str:
    """Write a weight so that it is read back as it is, without a `+`.

    Examples
    --------
    >>> weight_text(0.5), weight_text(2.0), weight_text(1e30)
    ('0.5', '2', '1e30')
    """
    text = repr(float(weight)).replace("e+", "e")
    return text.removesuffix(".0")


def read_model_ref(node: Node, what: str, notes: list[str]) -> ModelRef:
    """Return the model that a text or a mapping names.

    A path that exists is taken as it is, even with a `+`, an `@` or a `:` in it.

    Raises
    ------
    ConfigError
        A part of the reference is empty, or has more than one `@`.
    """
    if isinstance(node, MapNode):
        return _from_mapping(node, what, notes)
    text = as_text(node, what)
    model, *adapters = _parts(text)
    path, revision = _with_revision(model, node, what)
    return ModelRef(path, revision, node.where, tuple(_adapter(text, node, what) for text in adapters))


def read_adapter_ref(node: Node, what: str) -> AdapterRef:
    """Return the adapter that a text (`path[@revision][:weight]`) or a mapping names.

    Raises
    ------
    ConfigError
        A part of it is empty, or the weight is not a finite number.
    """
    if not isinstance(node, MapNode):
        return _adapter(as_text(node, what), node, what)
    node.refuse_unknown(ADAPTER_PATH_KEYS, "an adapter")
    path, revision = _path_and_revision(node, what)
    weight = node.get("weight")
    return AdapterRef(path, revision, 1.0 if weight is None else _weight(weight, what), node.where)


def _parts(text: str) -> list[str]:
    """Split at each `+`, but keep together what exists as a path."""
    pieces = _PLUS.split(text)
    parts: list[str] = []
    while pieces:
        whole = (n for n in range(len(pieces), 1, -1) if _exists("+".join(pieces[:n])))
        count = next(whole, 1)
        parts.append("+".join(pieces[:count]))
        del pieces[:count]
    return parts


def _exists(path: str) -> bool:
    try:
        return bool(path) and Path(path).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # a text too long for a file's name, or with a zero in it
        return False


def _adapter(text: str, node: Node, what: str) -> AdapterRef:
    weight = 1.0
    found = None if _exists(text) else _WEIGHT.fullmatch(text)
    if found is not None:
        text, weight = found[1], float(found[2])
        if not math.isfinite(weight):
            raise node.where.error(f"the weight of an adapter in {what} is {found[2]}; it has to be finite")
    path, revision = _with_revision(text, node, what)
    return AdapterRef(path, revision, weight, node.where)


def _with_revision(text: str, node: Node, what: str) -> tuple[str, str | None]:
    if _exists(text):
        return text, None
    path, at, revision = text.partition("@")
    if not path or (at and not revision) or "@" in revision:
        raise node.where.error(
            f"{what} is {shown(node)}; a reference is a path or Hub id, then at most one `@revision`, then "
            "adapters, each after a `+`"
        )
    return path, revision or None


def _from_mapping(node: MapNode, what: str, notes: list[str]) -> ModelRef:
    node.refuse_unknown(REFERENCE_KEYS, "a model reference")
    model = node.get("model")
    if model is None:
        raise node.where.error(f"{what} has no `model`; a reference is `model: {{path: …, revision: …}}`")
    path, revision = _from_path(model, what)
    if node.get("override_architecture") is not None:
        notes.append(
            node.keys["override_architecture"].note(
                "`override_architecture` changes nothing and is ignored: tensors are matched by name."
            )
        )
    return ModelRef(path, revision, model.where, _adapters(node.get("lora"), what))


def _adapters(node: Node | None, what: str) -> tuple[AdapterRef, ...]:
    if node is None:
        return ()
    items = as_list(node, "`lora`").items if isinstance(node, ListNode) else (node,)
    return tuple(read_adapter_ref(item, f"an adapter of {what}") for item in items)


def _from_path(node: Node, what: str) -> tuple[str, str | None]:
    if not isinstance(node, MapNode):
        return as_text(node, what), None
    node.refuse_unknown(PATH_KEYS, "a model's path")
    return _path_and_revision(node, what)


def _path_and_revision(node: Node, what: str) -> tuple[str, str | None]:
    mapping = as_map(node, what)
    path = mapping.get("path")
    if path is None:
        raise node.where.error(f"{what} has no `path`")
    revision = mapping.get("revision")
    return (
        as_text(path, f"the `path` of {what}"),
        None if revision is None else as_text(revision, f"the `revision` of {what}"),
    )


def _weight(node: Node, what: str) -> float:
    value = node.value if isinstance(node, Scalar) else None
    if not is_finite(value):
        raise node.where.error(f"the `weight` of {what} is {shown(node)}; it has to be a finite number")
    return float(value)
