"""Configurations whose models are adapters: told from those of checkpoints, and carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from carrick.adapters.adapter import Adapter, read_adapter
from carrick.adapters.folder import is_adapter
from carrick.adapters.merging.plan import AdapterPlan, plan_document
from carrick.adapters.merging.run import AdapterReport, merge_document
from carrick.checkpoints.find import existing_path, find_path
from carrick.config import load
from carrick.config.adapter import AdapterOptions
from carrick.config.location import Location
from carrick.config.model_ref import AdapterRef, read_adapter_ref, read_model_ref
from carrick.config.objects import read_object
from carrick.config.seed import check_seed
from carrick.config.tree import ListNode, MapNode, Node, Scalar
from carrick.config.yaml_text import read_text
from carrick.errors import ConfigError, FormatError
from carrick.held_folder import intermediates_folder
from carrick.intermediates import Intermediates
from carrick.knots.modules import KNOTS
from carrick.output_folder import check_replaceable, put_in_place
from carrick.plan.output import check_room, places_of
from carrick.suggestions import nearest

if TYPE_CHECKING:
    from carrick.adapters.merging.engine import Engine
    from carrick.config import Document
    from carrick.merge import Config

# What a document may say of checkpoints alone.
_OF_CHECKPOINTS = {
    "tokenizer": "tokenizer (`tokenizer_source`)",
    "chat_template": "`chat_template`",
    "tie": "embeddings to `tie`",
    "extra_tensors": "`extra_tensors`",
}


def merges_adapters(config: Config) -> bool:
    """Whether all models of a configuration are LoRA adapters: folders, Hub ids in the cache, or documents of its own.

    Raises
    ------
    ConfigError
        Some are adapters, and others are not.

    Examples
    --------
    >>> merges_adapters({"merge_method": "linear", "models": [{"model": "org/model"}]})
    False
    """
    trees = _trees(config)
    named = {_text(tree.get("name")) for tree in trees if isinstance(tree, MapNode)}
    listed = [model for tree in trees for model in _models(tree)]
    models = {_text(node): node for node in listed if _text(node) == "" or _text(node) not in named}
    adapters = [model for model in models if _is_adapter(model)]
    for model, node in models.items():
        if why := _why_no_weight(model):
            raise node.where.error(why)
    others = {model: node for model, node in models.items() if model not in adapters}
    if adapters and others:
        model, node = next(iter(others.items()))
        raise node.where.error(_why_mixed(adapters[0], model, named))
    return bool(adapters)


def _why_mixed(adapter: str, other: str, documents: set[str]) -> str:
    if other:
        model = read_model_ref(Scalar(other, Location()), "the model", [])
        try:
            if not model.adapters:
                find_path(model.path, model.revision)
        except FormatError:
            hint = nearest(other, documents - {""})
            return (
                f"`{other}`: no such folder, and not in the Hugging Face cache"
                f"{hint or '; check the name, or fetch it first with `hf download`'}"
            )
    what = f"`{other}` is" if other else "this one is"
    return (
        f"`{adapter}` is an adapter and {what} none; merge adapters alone, or put each on its base "
        f"(`BASE+{adapter}`)"
    )


def _why_no_weight(model: str) -> str:
    """Return why an adapter with a weight behind a colon is none here; "" for anything else."""
    try:
        ref = read_adapter_ref(Scalar(model, Location()), "the model")
    except ConfigError:  # a base with adapters on it, or a mistake that the reader names
        return ""
    plain = str(AdapterRef(ref.path, ref.revision))
    if plain == model or not _is_adapter(plain):
        return ""
    return f"`{model}`: the weight of an adapter is written under its `parameters`: weight: {ref.weight:g}"


def merge_configured(
    config: Config, out: Path, engine: Engine, *, seed: int | None, force: bool, keep: bool = False
) -> AdapterReport:
    """Merge the adapters of a configuration into one; `keep` leaves those of named documents beside it.

    Raises
    ------
    ConfigError
        What holds for checkpoints alone, or cannot be carried out.
    """
    documents = _documents(config, seed)
    _plans(documents, out, engine, keep=keep, force=force)  # a mistake in the last one costs no time
    made: dict[str, Adapter] = {}
    reports = []
    names = [document.name for document in documents if document.name is not None]
    with Intermediates(out, names, resumable=False) as held:
        for document, how in zip(documents, _engines(documents, engine), strict=True):
            if document.name is None:
                reports.append(merge_document(document, out, how, force=force, made=made))
                continue
            place = held.place(document.name)
            reports.append(merge_document(document, place, how, force=True, made=made))
            made[document.name] = replace(read_adapter(place), ref=document.name)
        for name, place in _kept_places(documents, out).items() if keep else ():
            put_in_place(held.place(name), place)
    return _summed(reports)


def plan_configured(
    config: Config,
    out: Path | None,
    engine: Engine,
    *,
    seed: int | None,
    force: bool = False,
    keep: bool = False,
) -> list[AdapterPlan]:
    """Plan the merges of a configuration, the output's last; with a folder, all that it takes to write there.

    Raises
    ------
    ConfigError, PlanError, FormatError
        What was asked for cannot be done.
    """
    return _plans(_documents(config, seed), out, engine, keep=keep, force=force)


def _plans(
    documents: list[Document], out: Path | None, engine: Engine, *, keep: bool, force: bool
) -> list[AdapterPlan]:
    made: dict[str, Adapter] = {}
    plans = []
    for document, how in zip(documents, _engines(documents, engine), strict=True):
        plan, adapter = plan_document(document, how, made, out)
        plans.append(plan)
        if adapter is not None:
            made[adapter.ref] = adapter
    if out is not None:
        _check_apart(documents, out)
        if keep:
            _check_kept_places(documents, out, force=force)
        check_room(out, sum(plan.bytes_written + plan.scratch_bytes for plan in plans))
    return plans


def _engines(documents: list[Document], engine: Engine) -> list[Engine]:
    """Return how each document is merged: the device is for those that decompose, and refused where none does."""
    decomposing = [_decomposes(document) for document in documents]
    if not any(decomposing):
        return [engine] * len(documents)
    return [engine if decomposes else replace(engine, device="cpu") for decomposes in decomposing]


def _decomposes(document: Document) -> bool:
    asked = document.adapter or AdapterOptions()
    is_cut = asked.rank is not None or asked.energy is not None
    return asked.space == "delta" and (is_cut or document.method.name.startswith(KNOTS))


def _check_apart(documents: list[Document], out: Path) -> None:
    folder = intermediates_folder(out.resolve())
    for read in _places_read(documents):
        if folder in {read, *read.parents}:
            raise ConfigError(
                f"the input {read} lies in {folder}, where adapters of named documents are made and deleted; "
                "move it, or choose another output"
            )


def _kept_places(documents: list[Document], out: Path) -> dict[str, Path]:
    """Folders beside the output where the adapters of named documents stay."""
    names = (document.name for document in documents)
    return {name: out.with_name(name) for name in names if name is not None}


def _check_kept_places(documents: list[Document], out: Path, *, force: bool) -> None:
    for name, place in _kept_places(documents, out).items():
        if place == out:
            raise ConfigError(
                f"the adapter of `{name}` would be kept at {out}, where the output goes; rename one"
            )
        if any(place.resolve() in {read, *read.parents} for read in _places_read(documents)):
            raise ConfigError(
                f"the adapter of `{name}` would be kept at {place}, where an input lies; rename the document"
            )
        check_replaceable(place, force=force)


def report_of(plans: list[AdapterPlan], out: Path) -> AdapterReport:
    """Return what a dry run reports: the plans, and what would be moved."""
    return AdapterReport(
        out,
        tensors=plans[-1].tensors,
        bytes_read=sum(plan.bytes_read for plan in plans),
        bytes_written=sum(plan.bytes_written for plan in plans),
        notes=list(dict.fromkeys(note for plan in plans for note in plan.notes)),
        dry_run=True,
        plans=plans,
    )


def _summed(reports: list[AdapterReport]) -> AdapterReport:
    """Return the last report, with what the earlier ones moved and noted."""
    *earlier, last = reports
    last.bytes_read += sum(report.bytes_read for report in earlier)
    last.bytes_written += sum(report.bytes_written for report in earlier)
    last.seconds += sum(report.seconds for report in earlier)
    last.notes = list(dict.fromkeys(note for report in reports for note in report.notes))
    return last


def _documents(config: Config, seed: int | None) -> list[Document]:
    """Read the documents in the order in which they run; a seed that is given goes before their own."""
    check_seed(seed)
    documents = load(config, adapters=True)
    for document in documents:
        for key, what in _OF_CHECKPOINTS.items():
            if getattr(document, key) not in {None, "error"}:
                raise document.where.error(f"the models are adapters, which have no {what}: leave it out")
    return documents if seed is None else [replace(document, seed=seed) for document in documents]


def _places_read(documents: list[Document]) -> list[Path]:
    """Folders and files on disk that documents name, what they make for each other left out."""
    made = {document.name for document in documents}
    refs = [source.ref for document in documents for source in document.parts[0].sources]
    refs += [document.base_model for document in documents if document.base_model is not None]
    paths = [ref.path for ref in refs if ref.path not in made]
    return [place.resolve() for place in places_of(paths)]


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


def _models(tree: Node) -> list[Node]:
    listed: Any = tree.get("models") if isinstance(tree, MapNode) else None
    if not isinstance(listed, ListNode):
        return []
    nodes = [item.get("model") for item in listed.items if isinstance(item, MapNode)]
    return [node for node in nodes if node is not None]  # of an entry without one the reader says so


def _text(node: Node | None) -> str:
    """Return a text; what is none is a reference with an adapter, or a mistake: neither is an adapter by itself."""
    return str(node.value) if isinstance(node, Scalar) else ""


def _is_adapter(model: str) -> bool:
    if not model:
        return False
    try:
        if existing_path(model) is not None:
            return is_adapter(model)
        path, _, revision = model.partition("@")
        return is_adapter(path, revision or None)
    except FormatError:  # nothing there, nor in the cache: what it is shows when it is read
        return False
