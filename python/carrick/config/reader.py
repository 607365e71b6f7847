"""Trees of located values → documents, and the doors: files, texts, Python mappings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from carrick import methods
from carrick.config.adapter import (
    default_variant,
    for_adapters,
    read_adapter_options,
    refuse_adapter_options,
    refuse_weights,
    refuse_whole_checkpoints,
)
from carrick.config.checks import check
from carrick.config.document import ChatTemplate, Document
from carrick.config.dtypes import read_dtype
from carrick.config.keys import CHAT_TEMPLATES, MERGEKIT_ONLY, TOKENIZER_KEYS, TOP_KEYS
from carrick.config.location import Location
from carrick.config.model_ref import ModelRef, read_model_ref
from carrick.config.objects import as_yaml, read_object
from carrick.config.parameters import read_parameters
from carrick.config.parts import read_parts
from carrick.config.seed import MAX_SEED
from carrick.config.stages import in_order
from carrick.config.swap import read_layer_swap, read_roles
from carrick.config.tree import MapNode, Node, as_choice, as_count, as_map, as_text, shown
from carrick.config.yaml_text import read_text
from carrick.suggestions import nearest, nearest_file, nearest_name

if TYPE_CHECKING:
    from carrick.methods import Method


def load(
    source: str | os.PathLike[str] | Mapping[str, object] | Sequence[Mapping[str, object]],
    *,
    adapters: bool = False,
) -> list[Document]:
    """Return the documents of a configuration in the order in which they run; the last one gives the output.

    Parameters
    ----------
    source
        The path of a YAML file, a mapping of the same shape, or a list of such mappings for several
        documents.
    adapters
        The models are LoRA adapters: weights are 1 by default, no base is needed.

    Raises
    ------
    ConfigError
        Anything in it that is unknown, misspelt, out of range or cannot be carried out, with file and line
        (or the path of keys).

    Examples
    --------
    >>> document, = load({"merge_method": "linear", "models": [
    ...     {"model": "A", "parameters": {"weight": 1}}, {"model": "B", "parameters": {"weight": 2}}]})
    >>> document.method.title, [str(source.ref) for source in document.parts[0].merged]
    ('Linear (model soup)', ['A', 'B'])
    """
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        return loads(_read_file(path), str(path), adapters=adapters)
    several = not isinstance(source, Mapping)
    roots = list(source) if isinstance(source, Sequence) else [source]
    start = Location()
    trees = [read_object(root, start.item(index) if several else start) for index, root in enumerate(roots)]
    if not trees:
        raise start.error("the configuration is empty; it needs at least `merge_method` and `models`")
    return _documents(trees, as_yaml(trees), adapters=adapters)


def loads(text: str, name: str = "<text>", *, adapters: bool = False) -> list[Document]:
    """Return the documents of a YAML text; `name` stands for the file in messages."""
    return _documents(read_text(text, name), text, adapters=adapters)


def _read_file(path: Path) -> str:
    where = Location(file=str(path))
    if path.is_dir():
        inside = path / "mergekit_config.yml"
        hint = f"; did you mean `{inside}`?" if inside.is_file() else "; give the YAML file itself"
        raise where.error(f"this is a folder{hint}")
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise where.error(f"there is no such file{nearest_file(path)}") from None
    except UnicodeDecodeError as error:
        raise where.error(f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def _documents(trees: Sequence[Node], text: str, *, adapters: bool) -> list[Document]:
    return in_order([_read_document(tree, text, adapters=adapters) for tree in trees])


def _read_document(tree: Node, text: str, *, adapters: bool) -> Document:
    node = as_map(tree, "the configuration")
    method = _read_method(node)
    if adapters:
        refuse_whole_checkpoints(method, node.entries["merge_method"])
        method = for_adapters(method)
        refuse_weights(node, method)
    else:
        refuse_adapter_options(node, method)
        if method.name == "cat":
            raise node.entries["merge_method"].where.error(
                "`cat` sets the factors of LoRA adapters side by side, and the models listed are checkpoints; "
                "their sum is `task_arithmetic`"
            )
    _refuse_unknown_keys(node, method)
    notes: list[str] = []
    base_node = node.get("base_model")
    base = None if base_node is None else read_model_ref(base_node, "`base_model`", notes)
    parts, stacked = read_parts(node, method, base, notes)
    parameters = read_parameters(node.get("parameters"), method, "document", notes, ("variant",))
    if method.name == "slerp" and base is None:
        base = parts[0].base.ref if parts[0].base is not None else None
    swap = (
        read_layer_swap(node.get("layers"), parameters, method, parts[0], adapters=adapters)
        if method.name == "layer_swap"
        else None
    )
    if swap is None and node.get("layers") is not None:
        raise node.keys["layers"].error(
            f"`layers` belongs to `layer_swap`, not to `{method.name}`; remove it"
        )
    document = Document(
        method=method,
        name=_text(node, "name"),
        base_model=base,
        parts=parts,
        stacked=stacked,
        parameters=parameters,
        variant=_read_variant(node, method) or (default_variant(method) if adapters else None),
        dtype=_dtype(node, "dtype"),
        out_dtype=_dtype(node, "out_dtype"),
        tokenizer=_read_tokenizer(node, notes),
        chat_template=_read_chat_template(node.get("chat_template")),
        seed=None if (seed := node.get("seed")) is None else as_count(seed, "`seed`", limit=MAX_SEED),
        tie=cast('Literal["keep", "untie"] | None', _choice(node, "tie", ("keep", "untie"))),
        extra_tensors=cast(
            'Literal["error", "base", "first"]',
            _choice(node, "extra_tensors", ("error", "base", "first")) or "error",
        ),
        roles=read_roles(node.get("roles")),
        layer_swap=swap,
        depends_on=(),
        notes=tuple(notes),
        text=text,
        where=node.where,
        adapter=read_adapter_options(node) if adapters or method.family == "factored" else None,
    )
    check(document)
    return document


def _refuse_unknown_keys(node: MapNode, method: Method) -> None:
    for key in node.entries:
        if key not in TOP_KEYS and method.parameter(key) is not None:
            raise node.keys[key].error(
                f"`{key}` is a parameter of `{method.name}`; write it under `parameters`"
            )
    node.refuse_unknown(TOP_KEYS, "a configuration")


def _read_method(node: MapNode) -> Method:
    table = methods.load()
    written = node.get("merge_method")
    if written is None:
        for key in node.entries:
            if nearest_name(key, ["merge_method"]):
                node.refuse_unknown(TOP_KEYS, "a configuration")
        raise node.where.error(f"`merge_method` is missing; it is one of {', '.join(table)}")
    name = as_text(written, "`merge_method`")
    if name in MERGEKIT_ONLY:
        raise written.where.error(
            f"mergekit's `{name}` is not available here; the methods are {', '.join(table)}"
        )
    if name not in table:
        hint = nearest(name, table) or f"; the methods are {', '.join(table)}"
        raise written.where.error(f"`{name}` is not a merge method{hint}")
    return table[name]


def _read_variant(node: MapNode, method: Method) -> str | None:
    parameters = node.get("parameters")
    inner = parameters.get("variant") if isinstance(parameters, MapNode) else None
    outer = node.get("variant")
    if inner is not None and outer is not None:
        raise inner.where.error(
            "`variant` is given twice, here and at the top of the document; remove one of them"
        )
    written = inner or outer
    if written is None:
        return None
    if not method.variants:
        raise written.where.error(f"`{method.name}` has no variants; remove `variant`")
    return as_choice(
        written, f"the variant of `{method.name}`", [variant.name for variant in method.variants]
    )


def _read_tokenizer(node: MapNode, notes: list[str]) -> Literal["base"] | ModelRef | None:
    short, long = node.get("tokenizer_source"), node.get("tokenizer")
    if short is not None and long is not None:
        raise node.keys["tokenizer"].error(
            "`tokenizer` and `tokenizer_source` exclude one another; remove one of them"
        )
    if long is not None:
        mapping = as_map(long, "`tokenizer`")
        mapping.refuse_unknown(TOKENIZER_KEYS, "`tokenizer`")
        for key in ("tokens", "pad_to_multiple_of"):
            if mapping.get(key) is not None:
                raise mapping.keys[key].error(
                    f"`{key}` is not possible yet; tokenizers are copied from one model as they are"
                )
        short = mapping.get("source")
        if short is None:
            raise mapping.where.error(
                "`tokenizer` has no `source` (mergekit's default, `union`, is not possible yet); give `base`"
            )
    if short is None:
        return None
    ref = read_model_ref(short, "the tokenizer's source", notes)
    if str(ref) == "union":
        raise short.where.error(
            "a `union` of tokenizers is not possible yet; give `base` or a model to copy from"
        )
    return "base" if str(ref) == "base" else ref


def _read_chat_template(node: Node | None) -> ChatTemplate | None:
    if node is None:
        return None
    text = as_text(node, "`chat_template`")
    if text in CHAT_TEMPLATES:
        return ChatTemplate("auto" if text == "auto" else "named", text)
    if "{" in text and "}" in text:
        return ChatTemplate("jinja", text)
    hint = nearest(text, CHAT_TEMPLATES) or f"; it is a Jinja text or one of {', '.join(CHAT_TEMPLATES)}"
    raise node.where.error(f"`chat_template` is {shown(node)}, which is not a known template{hint}")


def _text(node: MapNode, key: str) -> str | None:
    value = node.get(key)
    return None if value is None else as_text(value, f"`{key}`")


def _dtype(node: MapNode, key: str) -> str | None:
    value = node.get(key)
    return None if value is None else read_dtype(value, key)


def _choice(node: MapNode, key: str, choices: tuple[str, ...]) -> str | None:
    value = node.get(key)
    return None if value is None else as_choice(value, f"`{key}`", choices)
