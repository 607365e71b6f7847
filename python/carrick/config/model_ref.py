"""References to models: `path-or-hub-id[@revision][+adapter[@revision]]`, or the same as a mapping."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from carrick.config.location import Location
from carrick.config.tree import MapNode, Node, as_map, as_text

REFERENCE_KEYS = {
    "model": "The checkpoint: `path` and, for the Hub, `revision`.",
    "lora": "An adapter to apply on top of it (not yet).",
    "override_architecture": "mergekit's name of an architecture; changes nothing.",
}
PATH_KEYS = {
    "path": "A folder, a safetensors file, or the id of a model of the Hub.",
    "revision": "Branch, tag or commit of the Hub.",
}


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A model as it was written: a local path or a Hub id, and a revision of the latter.

    Examples
    --------
    >>> str(ModelRef("org/model", "main"))
    'org/model@main'
    """

    path: str
    revision: str | None = None
    where: Location = field(default_factory=Location, compare=False, repr=False)

    def __str__(self) -> str:
        return self.path if self.revision is None else f"{self.path}@{self.revision}"


def read_model_ref(node: Node, what: str, notes: list[str]) -> ModelRef:
    """Return the model that a text or a mapping names.

    A path that exists is taken as it is, even with a `+` or an `@` in it.

    Raises
    ------
    ConfigError
        The reference has more than one `+` or `@`, or names an adapter.
    """
    if isinstance(node, MapNode):
        return _from_mapping(node, what, notes)
    text = as_text(node, what)
    if _exists(text):
        return ModelRef(text, None, node.where)
    model, plus, adapter = text.partition("+")
    if "+" in adapter:
        raise node.where.error(f"{what} is `{text}`; a reference has at most one `+`")
    ref = _with_revision(model, node, what)
    if plus:
        raise _no_adapter(node, what, str(ref), str(_with_revision(adapter, node, what)))
    return ref


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # a text too long for a file's name
        return False


def _with_revision(text: str, node: Node, what: str) -> ModelRef:
    path, at, revision = text.partition("@")
    if not path or (at and not revision) or "@" in revision:
        raise node.where.error(
            f"{what} is `{text}`; a reference is a path or Hub id, then at most one `@revision`"
        )
    return ModelRef(path, revision or None, node.where)


def _from_mapping(node: MapNode, what: str, notes: list[str]) -> ModelRef:
    node.refuse_unknown(REFERENCE_KEYS, "a model reference")
    model = node.get("model")
    if model is None:
        raise node.where.error(f"{what} has no `model`; a reference is `model: {{path: …, revision: …}}`")
    ref = _from_path(model, what)
    adapter = node.get("lora")
    if adapter is not None:
        raise _no_adapter(adapter, what, str(ref), str(_from_path(adapter, what)))
    if node.get("override_architecture") is not None:
        notes.append(
            node.keys["override_architecture"].note(
                "`override_architecture` changes nothing and is ignored: tensors are matched by name."
            )
        )
    return ref


def _from_path(node: Node, what: str) -> ModelRef:
    if not isinstance(node, MapNode):
        return ModelRef(as_text(node, what), None, node.where)
    node.refuse_unknown(PATH_KEYS, "a model's path")
    path = node.get("path")
    if path is None:
        raise node.where.error(f"{what} has no `path`")
    revision = node.get("revision")
    return ModelRef(
        as_text(path, f"the `path` of {what}"),
        None if revision is None else as_text(revision, f"the `revision` of {what}"),
        as_map(node, what).where,
    )


def _no_adapter(node: Node, what: str, model: str, adapter: str) -> Exception:
    return node.where.error(
        f"{what} puts the adapter `{adapter}` on `{model}`, which is not possible yet: adapters come "
        "in a later version; fold the adapter into a checkpoint of its own and name that"
    )
