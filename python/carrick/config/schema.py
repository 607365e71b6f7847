"""The JSON schema of a configuration, made from the key tables and the method table that the reader uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from carrick import methods
from carrick.config.adapter import MAX_RANK
from carrick.config.dtypes import DTYPE_NAMES
from carrick.config.keys import (
    LAYER_KEYS,
    MERGEKIT_PARAMETERS,
    MODEL_KEYS,
    ROLE_NAMES,
    SLICE_KEYS,
    SOURCE_KEYS,
    TOKENIZER_KEYS,
    TOP_KEYS,
)
from carrick.config.model_ref import ADAPTER_PATH_KEYS, PATH_KEYS, REFERENCE_KEYS
from carrick.config.parameters import LEVELS, Level
from carrick.config.seed import MAX_SEED
from carrick.config.settings import CONDITION_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carrick.methods import Method, Parameter

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string", "minLength": 1}
_NOT_YET: Schema = {"type": "null"}
_REFERENCE: Schema = {"$ref": "#/$defs/reference"}
_PATTERN: Schema = {"type": "string", "format": "regex", "minLength": 1}
_NUMBER_TEXT: Schema = {
    "type": "string",
    "pattern": r"^\s*[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\s*$",
}
_WORDS = [True, False, 0, 1, "true", "false", "yes", "no", "on", "off"]


def json_schema() -> Schema:
    """Return the schema (draft 2020-12) of one document of a configuration.

    Which keys `parameters` may have depends on `merge_method`; a key with no value counts as absent.

    Examples
    --------
    >>> "ties" in json_schema()["properties"]["merge_method"]["enum"]
    True
    """
    table = methods.load()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Carrick: the configuration of a merge",
        **_mapping(TOP_KEYS, _top_shapes(list(table)), required=("merge_method",)),
        "oneOf": [_given("models"), _given("slices")],
        "allOf": [_for_method(method) for method in table.values()],
        "$defs": {
            "reference": _reference(),
            **{
                _name(method, level): _parameters(method, level)
                for method in table.values()
                for level in ("document", "slice", "model")
            },
        },
    }


def _top_shapes(names: list[str]) -> Mapping[str, Schema]:
    entry = _mapping(MODEL_KEYS, {"model": _REFERENCE, "parameters": {"type": "object"}}, required=("model",))
    dtype: Schema = {"enum": list(DTYPE_NAMES)}
    return {
        "merge_method": {"enum": names},
        "base_model": _REFERENCE,
        "models": {"type": "array", "minItems": 1, "items": entry},
        "slices": {"type": "array", "minItems": 1, "items": _slice()},
        "modules": _NOT_YET,
        "parameters": {"type": "object"},
        "dtype": dtype,
        "out_dtype": dtype,
        "tokenizer_source": {"$ref": "#/$defs/reference", "not": {"const": "union"}},
        "tokenizer": _mapping(
            TOKENIZER_KEYS,
            {
                "source": {"$ref": "#/$defs/reference", "not": {"const": "union"}},
                "tokens": _NOT_YET,
                "pad_to_multiple_of": _NOT_YET,
            },
            required=("source",),
        ),
        "chat_template": _TEXT,
        "name": {"type": "string", "pattern": r"^[^/\\\u0000]+$"},
        "seed": {"type": "integer", "minimum": 0, "maximum": MAX_SEED},
        "variant": _TEXT,
        "tie": {"enum": ["keep", "untie"]},
        "extra_tensors": {"enum": ["error", "base", "first"]},
        "layers": _layers(),
        "roles": _roles(),
        "rank": {"type": "integer", "minimum": 1, "maximum": MAX_RANK},
        "energy": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "space": {"enum": ["delta", "factors"]},
        "precision": {"enum": ["float32", "float64"]},
        "modules_to_save": {"anyOf": [_TEXT, {"type": "integer", "minimum": 1}]},
    }


def _slice() -> Schema:
    layer = {"type": "integer", "minimum": 0}
    shapes = {
        "model": _REFERENCE,
        "layer_range": {"type": "array", "items": layer, "minItems": 2, "maxItems": 2},
        "parameters": {"type": "object"},
    }
    source = _mapping(SOURCE_KEYS, shapes, required=("model", "layer_range"))
    return _mapping(
        SLICE_KEYS,
        {
            "sources": {"type": "array", "minItems": 1, "items": source},
            "base_model": _REFERENCE,
            "parameters": {"type": "object"},
            "residual_weight": {},
        },
        required=("sources",),
    )


def _layers() -> Schema:
    share = {"anyOf": [{"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0, "maximum": 1}]}
    return _mapping(LAYER_KEYS, {"first": share, "last": share, "match": _PATTERN})


def _roles() -> Schema:
    patterns = {"anyOf": [_PATTERN, {"type": "array", "minItems": 1, "items": _PATTERN}]}
    return {
        "type": "object",
        "properties": dict.fromkeys(ROLE_NAMES, patterns),
        "additionalProperties": False,
    }


def _reference() -> Schema:
    path = _mapping(PATH_KEYS, {"path": _TEXT, "revision": _TEXT}, required=("path",))
    own: Mapping[str, Schema] = {"path": _TEXT, "revision": _TEXT, "weight": {"type": "number"}}
    adapter: Schema = {"anyOf": [_TEXT, _mapping(ADAPTER_PATH_KEYS, own, required=("path",))]}
    lora: Schema = {"anyOf": [adapter, {"type": "array", "minItems": 1, "items": adapter}]}
    shapes = {"model": {"anyOf": [_TEXT, path]}, "lora": lora, "override_architecture": {}}
    return {"anyOf": [_TEXT, _mapping(REFERENCE_KEYS, shapes, required=("model",))]}


def _for_method(method: Method) -> Schema:
    """Return what holds once `merge_method` has this name."""
    per_model = {"items": {"properties": {"parameters": _ref(method, "model")}}}
    then: Schema = {
        "properties": {
            "parameters": _ref(method, "document"),
            "models": per_model,
            "slices": {
                "items": {"properties": {"parameters": _ref(method, "slice"), "sources": per_model}},
            },
        }
    }
    shapes = then["properties"]
    if method.variants:
        shapes["variant"] = _or_null({"enum": [variant.name for variant in method.variants]})
    else:
        shapes["variant"] = {"type": "null"}
    if method.name == "layer_swap":
        shapes["slices"] = {"type": "null"}
    else:
        shapes["layers"] = {"type": "null"}
    if method.base == "required" and method.name != "slerp":
        then["anyOf"] = [_given("base_model"), _given("slices")]
    named = {"properties": {"merge_method": {"const": method.name}}, "required": ["merge_method"]}
    return {"if": named, "then": then}


def _parameters(method: Method, level: Level) -> Schema:
    properties = {
        parameter.name: _setting(parameter)
        for parameter in method.parameters
        if level in LEVELS[parameter.scope]
    }
    if level == "document" and method.variants:
        names = [variant.name for variant in method.variants]
        properties["variant"] = _or_null({"enum": names, "description": TOP_KEYS["variant"]})
    if level == "model" and method.name == "layer_swap":
        properties["role"] = _or_null({"enum": ["task", "language"], "description": "Which expert this is."})
    own = {parameter.name for parameter in method.parameters}
    for name in sorted((MERGEKIT_PARAMETERS | set(method.ignored)) - own):
        properties[name] = {"description": "Changes nothing here; accepted with a note."}
    return {"type": ["object", "null"], "properties": properties, "additionalProperties": False}


def _setting(parameter: Parameter) -> Schema:
    value = _value(parameter)
    described: Schema = {"description": parameter.doc}
    if parameter.default is not None:
        described["default"] = parameter.default
    if parameter.scope == "merge":
        return {**described, **value}
    along: Schema = {"anyOf": [value, {"type": "array", "minItems": 1, "items": value}]}
    part = {"type": ["string", "null"], "minLength": 1}
    condition = _mapping(CONDITION_KEYS, {"filter": part, "value": along}, required=("value",))
    return {**described, "anyOf": [*along["anyOf"], {"type": "array", "minItems": 1, "items": condition}]}


def _value(parameter: Parameter) -> Schema:
    match parameter.type:
        case "bool":
            return {"enum": _WORDS}
        case "choice":
            choices = list(parameter.choices or ())
            return {
                "enum": [*choices, *(word for word in _WORDS if "true" in choices and word not in choices)]
            }
        case "float":
            limits = {"minimum": parameter.min, "maximum": parameter.max}
            number = {"type": "number", **{key: value for key, value in limits.items() if value is not None}}
            return {"anyOf": [number, _NUMBER_TEXT]}


def _mapping(docs: Mapping[str, str], shapes: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    """Return a mapping with exactly these keys, each with its sentence; those not required may be null."""
    properties = {}
    for key, doc in docs.items():
        shape = shapes[key] if key in required else _or_null(shapes[key])
        properties[key] = {"description": doc, **shape}
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
    }


def _or_null(shape: Schema) -> Schema:
    if not shape or shape == _NOT_YET:
        return shape
    return {"anyOf": [shape, {"type": "null"}]}


def _given(key: str) -> Schema:
    return {"required": [key], "properties": {key: {"not": {"type": "null"}}}}


def _name(method: Method, level: str) -> str:
    return f"{method.name}_{level}"


def _ref(method: Method, level: str) -> Schema:
    return {"$ref": f"#/$defs/{_name(method, level)}"}
