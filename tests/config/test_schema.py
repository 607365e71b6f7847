"""The published schema agrees with the reader: both accept the same and refuse the same."""

import json

import pytest
from jsonschema import Draft202012Validator

from carrick import methods
from carrick.config import load
from carrick.config.keys import TOP_KEYS
from carrick.config.schema import json_schema
from carrick.errors import ConfigError


@pytest.fixture(scope="module")
def validator():
    return Draft202012Validator(json_schema())


TIES = {"merge_method": "ties", "base_model": "base", "models": [{"model": "A", "parameters": {"weight": 1}}]}
SLICES = {
    "merge_method": "passthrough",
    "slices": [{"sources": [{"model": "A", "layer_range": [0, 4], "parameters": {"scale": 2}}]}],
}
SWAP = {"merge_method": "layer_swap", "models": [{"model": "A"}, {"model": "B"}]}


def test_the_schema_is_a_schema():
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(TOP_KEYS)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    "config",
    [
        TIES,
        TIES
        | {"variant": "paper", "seed": 3, "tie": "keep", "extra_tensors": "first", "roles": {"norm": ["a"]}},
        TIES
        | {
            "parameters": {
                "variant": "paper",
                "int8_mask": True,
                "rescale": True,
                "vote": "sum",
                "lambda": "1e-5",
            }
        },
        TIES
        | {"parameters": {"weight": [{"filter": "mlp", "value": [0, 1]}, {"value": 1}], "density": [1, 0.5]}},
        TIES
        | {
            "parameters": None,
            "slices": None,
            "dtype": "BF16",
            "out_dtype": "float16",
            "chat_template": "auto",
        },
        TIES
        | {"tokenizer_source": "base", "base_model": {"model": {"path": "b", "revision": "r"}, "lora": None}},
        TIES | {"tokenizer": {"source": "base"}},
        TIES | {"base_model": {"model": "b", "lora": "a:0.5"}},
        TIES | {"base_model": {"model": "b", "lora": ["a", {"path": "c", "revision": "r", "weight": -1}]}},
        SLICES,
        SLICES
        | {"slices": [{"sources": [{"model": "A", "layer_range": [0, 4], "parameters": {"density": 1}}]}]},
        TIES | {"parameters": {"t": 0.5, "filter_wise": True}},
        SLICES | {"slices": [{**SLICES["slices"][0], "residual_weight": 0.1, "parameters": {"scale": 0}}]},
        SWAP,
        SWAP | {"layers": {"first": 2, "last": 0.5}},
        SWAP | {"parameters": {"partition": "Z", "embeddings": "average"}},
        SWAP | {"models": [{"model": "A", "parameters": {"role": "language"}}, {"model": "B"}]},
    ],
)
def test_both_accept(validator, config):
    load(config)
    assert [error.message for error in validator.iter_errors(config)] == []


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"merge_method": "ties"},
        TIES | {"merge_method": "tise"},
        TIES | {"base_modle": "A"},
        TIES | {"parameters": {"denisty": 0.5}},
        TIES | {"parameters": {"density": 1.5}},
        TIES | {"parameters": {"density": [0.5, 1.5]}},
        TIES | {"parameters": {"density": [{"filter": "mlp", "value": 1.5}]}},
        TIES | {"parameters": {"density": [{"fliter": "mlp", "value": 0.5}]}},
        TIES | {"parameters": {"lambda": "high"}},
        TIES | {"parameters": {"lambda": True}},
        TIES | {"parameters": {"partition": "A"}},
        TIES | {"parameters": {"vote": "frequancy"}},
        TIES | {"parameters": {"trim_scope": ["tensor", "model"]}},
        TIES | {"parameters": {"normalize": 2}},
        TIES | {"models": [{"model": "A", "parameters": {"weight": 1, "normalize": True}}]},
        TIES | {"models": [{"modle": "A"}]},
        TIES | {"models": []},
        TIES | {"models": ["A"]},
        TIES | {"base_model": None},
        TIES | {"variant": "papr"},
        TIES | {"dtype": "bfloat"},
        TIES | {"seed": -1},
        TIES | {"tokenizer_source": "union"},
        TIES | {"tokenizer": {}},
        TIES | {"modules": {"text": {}}},
        TIES | {"layers": {"first": 1}},
        TIES | {"roles": {"atention": "x"}},
        TIES | {"slices": SLICES["slices"]},
        TIES | {"base_model": {"model": "A", "lora": []}},
        TIES | {"base_model": {"model": "A", "lora": {"path": "L", "weight": "high"}}},
        TIES | {"base_model": {"model": "A", "lora": {"path": "L", "wieght": 1}}},
        SLICES | {"variant": "paper"},
        SLICES | {"slices": [{"sources": [{"model": "A"}]}]},
        SLICES | {"slices": [{"sources": [{"model": "A", "layer_range": [0, -1]}]}]},
        SLICES
        | {"slices": [{"sources": [{"model": "A", "layer_range": [0, 4], "parameters": {"vote": "sum"}}]}]},
        SWAP | {"parameters": {"partition": "D"}},
        SWAP | {"layers": {"frist": 1}},
        SWAP | {"models": [{"model": "A", "parameters": {"role": "tsk"}}, {"model": "B"}]},
    ],
)
def test_both_refuse(validator, config):
    with pytest.raises(ConfigError):
        load(config)
    assert not validator.is_valid(config)


@pytest.mark.parametrize("name", methods.load())
def test_each_method_has_its_parameters_and_no_others(validator, name):
    method = methods.load()[name]
    models = [{"model": f"m{index}"} for index in range(method.max_models or method.min_models)]
    config = {"merge_method": name, "models": models}
    if method.base == "required":
        config["base_model"] = "base"
    defaults = {row.name: 0.5 if row.default is None else row.default for row in method.parameters}
    config["parameters"] = defaults
    adapters = name == "cat"  # the only method that checkpoints have not
    load(config, adapters=adapters)
    assert validator.is_valid(config)
    for row in method.parameters:
        config["parameters"] = {
            key if key != row.name else f"{key}x": value for key, value in defaults.items()
        }
        with pytest.raises(ConfigError, match=f"did you mean `{row.name}`"):
            load(config, adapters=adapters)
        assert not validator.is_valid(config)
