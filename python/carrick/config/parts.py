"""`models:` and `slices:` → the parts of a merge, each with its base told from the models that are merged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

from carrick.config.document import Role, Slice, Source
from carrick.config.keys import MODEL_KEYS, SLICE_KEYS, SOURCE_KEYS
from carrick.config.model_ref import ModelRef, read_model_ref
from carrick.config.parameters import read_parameters
from carrick.config.tree import ListNode, MapNode, Node, Scalar, as_choice, as_list, as_map, shown

if TYPE_CHECKING:
    from carrick.methods import Method


MAX_LAYERS = 1_000_000


def read_parts(
    document: MapNode, method: Method, base_model: ModelRef | None, notes: list[str]
) -> tuple[tuple[Slice, ...], bool]:
    """Return the parts of a document and whether they are slices to be stacked.

    Raises
    ------
    ConfigError
        There is not exactly one of `models` and `slices`, or one of them cannot be carried out by this
        method.
    """
    if document.get("modules") is not None:
        raise document.keys["modules"].error(
            "`modules` is not read yet; list the models under `models`: tensors are matched by name, "
            "whatever module they are in"
        )
    models, slices = document.get("models"), document.get("slices")
    if models is not None and slices is not None:
        raise document.keys["slices"].error("`models` and `slices` exclude one another; remove one of them")
    if slices is not None:
        if method.name == "layer_swap":
            raise document.keys["slices"].error("`layer_swap` takes whole models; list them under `models`")
        nodes = as_list(slices, "`slices`").items
        return tuple(_read_slice(node, method, base_model, notes) for node in nodes), True
    if models is None:
        raise document.where.error("no models are given; list them under `models`")
    return (_whole_models(models, method, base_model, notes),), False


def _whole_models(node: Node, method: Method, base_model: ModelRef | None, notes: list[str]) -> Slice:
    listed = as_list(node, "`models`")
    sources = [_read_source(item, method, MODEL_KEYS, "`models`", notes) for item in listed.items]
    seen: set[ModelRef] = set()
    for source in sources:
        if source.ref in seen:
            raise source.where.error(
                f"`{source.ref}` is listed twice; list it once, with the sum of its weights"
            )
        seen.add(source.ref)
    if method.base == "unused" and base_model is not None and base_model not in seen:
        notes.append(
            base_model.where.note(
                f"`{method.name}` merges the models that are listed; `base_model` gives configuration and "
                "tokenizer only."
            )
        )
    if method.name == "slerp" and base_model is None and len(sources) == 2:
        base_model = sources[0].ref
        notes.append(
            sources[0].where.note(f"no `base_model`: `t: 0` is the model listed first, `{base_model}`.")
        )
    if method.base != "unused" and base_model is not None and base_model not in seen:
        sources.append(Source(base_model, None, {}, base_model.where))
    return _part(sources, method, base_model, Slice(tuple(sources), None, (), {}, None, listed.where), notes)


def _read_slice(node: Node, method: Method, base_model: ModelRef | None, notes: list[str]) -> Slice:
    mapping = as_map(node, "a slice")
    mapping.refuse_unknown(SLICE_KEYS, "a slice")
    if mapping.get("residual_weight") is not None:
        notes.append(
            mapping.keys["residual_weight"].note("`residual_weight` changes nothing and is ignored.")
        )
    own_base = mapping.get("base_model")
    if own_base is not None:
        base_model = read_model_ref(own_base, "the slice's `base_model`", notes)
    listed = mapping.get("sources")
    if listed is None:
        raise mapping.where.error("the slice has no `sources`; list the models whose layers make it up")
    items = as_list(listed, "`sources`").items
    sources = [_read_source(item, method, SOURCE_KEYS, "`sources`", notes) for item in items]
    layers = _common_length(sources)
    if (
        method.base != "unused"
        and base_model is not None
        and all(base_model != source.ref for source in sources)
    ):
        raise listed.where.error(
            f"the slice does not list the base model `{base_model}`; add it to `sources` with the layers to "
            "measure from"
        )
    parameters = read_parameters(mapping.get("parameters"), method, "slice", notes)
    return _part(
        sources, method, base_model, Slice(tuple(sources), None, (), parameters, layers, mapping.where), notes
    )


def _common_length(sources: list[Source]) -> int:
    """Return the number of layers of a slice, the same for all of its sources."""
    first = sources[0]
    seen: set[tuple[ModelRef, tuple[int, int] | None]] = set()
    for source in sources:
        if source.layer_range is None:
            raise source.where.error(
                f"`{source.ref}` has no `layer_range`; give the first layer and the one after the last"
            )
        if (source.ref, source.layer_range) in seen:
            raise source.where.error(f"`{source.ref}` is listed twice with the same layers; list it once")
        seen.add((source.ref, source.layer_range))
        begin, end = source.layer_range
        if first.layer_range is not None and end - begin != first.layer_range[1] - first.layer_range[0]:
            raise source.where.error(
                f"`{source.ref}` gives {end - begin} layers to this slice and `{first.ref}` gives "
                f"{first.layer_range[1] - first.layer_range[0]}; all sources of a slice give equally many"
            )
    begin, end = first.layer_range or (0, 0)
    return end - begin


def _read_source(node: Node, method: Method, keys: dict[str, str], where: str, notes: list[str]) -> Source:
    if not isinstance(node, MapNode):
        raise node.where.error(f"an entry of {where} is {shown(node)}; it has to be a mapping: `- model: …`")
    node.refuse_unknown(keys, f"an entry of {where}")
    model = node.get("model")
    if model is None:
        raise node.where.error(f"an entry of {where} has no `model`")
    ref = read_model_ref(model, "`model`", notes)
    parameters = node.get("parameters")
    also = ("role",) if method.name == "layer_swap" else ()
    settings = read_parameters(parameters, method, "model", notes, also)
    role = parameters.get("role") if also and isinstance(parameters, MapNode) else None
    layer_range = node.get("layer_range")
    return Source(
        ref,
        None if layer_range is None else _read_range(layer_range),
        settings,
        node.where,
        None if role is None else cast("Role", as_choice(role, "`role`", ("task", "language"))),
    )


def _read_range(node: Node) -> tuple[int, int]:
    what = shown(node)
    if isinstance(node, ListNode):
        what = f"[{', '.join(shown(item).strip('`') for item in node.items)}]"
        match [item.value if isinstance(item, Scalar) else None for item in node.items]:
            case [int(begin), int(end)] if 0 <= begin < end <= MAX_LAYERS:
                return begin, end
    raise node.where.error(f"`layer_range` is {what}; it has to be [first layer, the one after the last]")


def _part(
    sources: list[Source], method: Method, base_model: ModelRef | None, part: Slice, notes: list[str]
) -> Slice:
    """Tell the base from the models that are merged, and check how many of these there are."""
    base = None
    if method.base == "required" and base_model is None:
        raise part.where.error(
            f"`{method.name}` needs `base_model`: the model that the others are compared with; add it to "
            "the document"
        )
    if method.base != "unused" and base_model is not None:
        base = next((source for source in sources if source.ref == base_model), None)
    merged = tuple(source for source in sources if source is not base)
    fewest, most = method.min_models, method.max_models
    if len(merged) < fewest or (most is not None and len(merged) > most):
        count = (
            f"{fewest}" if most == fewest else f"at least {fewest}" if most is None else f"{fewest} to {most}"
        )
        beside = f" besides the base `{base.ref}`" if base is not None else ""
        noun = "model" if count.endswith("1") else "models"
        raise part.where.error(
            f"`{method.name}` merges {count} {noun}{beside}; {len(merged) or 'none'} listed"
        )
    if base is not None and base.parameters:
        for name, setting in base.parameters.items():
            notes.append(setting.where.note(f"`{name}` changes nothing for the base model and is ignored."))
        bare = replace(base, parameters={})
        part = replace(part, sources=tuple(bare if source is base else source for source in sources))
        base = bare
    return replace(part, base=base, merged=merged)
