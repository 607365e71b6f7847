"""Configurations whose models are adapters: told from those of checkpoints, and carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.adapters.folder import CONFIG
from carrick.adapters.merging.run import merge_document
from carrick.checkpoints.find import ADAPTER, find_path
from carrick.config import load
from carrick.config.location import Location
from carrick.config.objects import read_object
from carrick.config.tree import ListNode, MapNode, Node, Scalar
from carrick.config.yaml_text import read_text
from carrick.errors import ConfigError, FormatError

if TYPE_CHECKING:
    from carrick.adapters.merging.engine import Engine
    from carrick.adapters.merging.run import AdapterReport
    from carrick.merge import Config


def merges_adapters(config: Config) -> bool:
    """Whether all models of a configuration are LoRA adapters: folders, or Hub ids in the cache.

    Examples
    --------
    >>> merges_adapters({"merge_method": "linear", "models": [{"model": "org/model"}]})
    False
    """
    models = [model for tree in _trees(config) for model in _models(tree)]
    return bool(models) and all(_is_adapter(model) for model in models)


def merge_configured(
    config: Config, out: Path, engine: Engine, *, seed: int | None, force: bool, dry_run: bool
) -> AdapterReport:
    """Merge the adapters of a configuration into one.

    Raises
    ------
    ConfigError
        Several documents, or what holds for checkpoints alone.
    """
    documents = load(config, adapters=True)
    if len(documents) > 1:
        raise ConfigError(
            "the configuration has several documents, and its models are adapters: merge one document at a time"
        )
    document = documents[0] if seed is None else replace(documents[0], seed=seed)
    return merge_document(document, out, engine, force=force, dry_run=dry_run)


def refuse_for_adapters(**given: object) -> None:
    """Raise for options that mean something for checkpoints alone."""
    for name, value in given.items():
        if value:
            what = name.replace("_", " ")
            raise ConfigError(f"the models are adapters, which have no {what}: leave it out")


def _trees(config: Config) -> list[Node]:
    if isinstance(config, str | Path):
        path = Path(config)
        if not path.is_file():
            return []  # the reader says what is wrong
        try:
            return list(read_text(path.read_bytes().decode("utf-8-sig"), str(path)))
        except UnicodeDecodeError:
            return []
    roots = list(config) if isinstance(config, Sequence) else [config]
    return [read_object(root, Location()) for root in roots if isinstance(root, Mapping)]


def _models(tree: Node) -> list[str]:
    listed: Any = tree.get("models") if isinstance(tree, MapNode) else None
    if not isinstance(listed, ListNode):
        return []
    nodes = [item.get("model") if isinstance(item, MapNode) else None for item in listed.items]
    # What is no text is a reference with an adapter, or a mistake: neither is an adapter by itself.
    return [str(node.value) if isinstance(node, Scalar) else "" for node in nodes]


def _is_adapter(model: str) -> bool:
    try:
        if not model or Path(model).expanduser().exists():
            return bool(model) and (Path(model).expanduser() / CONFIG).is_file()
    except OSError:  # a text too long for a file's name
        return False
    path, _, revision = model.partition("@")
    try:
        folder, _ = find_path(path, revision or None, files=ADAPTER)
    except FormatError:  # not in the cache: what it is shows when it is read
        return False
    return (folder / CONFIG).is_file()
