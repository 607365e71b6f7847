"""The configurations that are common in the wild are read unchanged, and the schema accepts them."""

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from carrick.config import Position, loads, options_for
from carrick.config.schema import json_schema

SLERP = """
slices:
  - sources:
      - model: OpenPipe/mistral-ft-optimized-1218
        layer_range: [0, 32]
      - model: mlabonne/NeuralHermes-2.5-Mistral-7B
        layer_range: [0, 32]
merge_method: slerp
base_model: OpenPipe/mistral-ft-optimized-1218
parameters:
  t:
    - filter: self_attn
      value: [0, 0.5, 0.3, 0.7, 1]
    - filter: mlp
      value: [1, 0.5, 0.7, 0.3, 0]
    - value: 0.5
dtype: bfloat16
"""
DARE_TIES = """
models:
  - model: mistralai/Mistral-7B-v0.1
    # No parameters necessary for base model
  - model: samir-fama/SamirGPT-v1
    parameters:
      density: 0.53
      weight: 0.4
  - model: abacusai/Slerp-CM-mist-dpo
    parameters:
      density: 0.53
      weight: 0.3
merge_method: dare_ties
base_model: mistralai/Mistral-7B-v0.1
parameters:
  int8_mask: true
dtype: bfloat16
"""
TIES = """
models:
  - model: mistralai/Mistral-7B-v0.1
  - model: OpenPipe/mistral-ft-optimized-1218
    parameters:
      density: [1, 0.7, 0.1]
      weight: 1.0
  - model: mlabonne/NeuralHermes-2.5-Mistral-7B
    parameters:
      density: 0.33
      weight:
        - filter: mlp
          value: 0.5
        - value: 0
merge_method: ties
base_model: mistralai/Mistral-7B-v0.1
parameters:
  normalize: true
  int8_mask: true
dtype: float16
"""
PASSTHROUGH = """
dtype: bfloat16
merge_method: passthrough
slices:
- sources:
  - model: A
    layer_range: [0, 20]
- sources:
  - model: A
    layer_range: [10, 30]
    parameters:
      scale:
        - filter: o_proj
          value: 0.0
        - filter: down_proj
          value: 0.0
        - value: 1.0
"""
MODEL_STOCK = """
models:
  - model: A
  - model: B
  - model: C
base_model: base
merge_method: model_stock
dtype: float32
out_dtype: bfloat16
"""
TASK_ARITHMETIC = """
base_model: base
models:
  - {model: chat, parameters: {weight: 1.0}}
  - {model: language, parameters: {weight: 0.8, density: 0.5}}
merge_method: task_arithmetic
parameters: {lambda: 1.1, int8_mask: 1}
"""
LINEAR = """
models:
  - model: A
    parameters:
      weight: 1
  - model: B
    parameters:
      weight: "3e-1"
merge_method: linear
tokenizer_source: base
dtype: float16
"""
DELLA = """
models:
  - model: A
    parameters: {weight: 1, density: 0.55, epsilon: 0.05}
  - model: B
    parameters: {weight: 1, density: 0.55, epsilon: 0.05}
merge_method: della_linear
base_model: base
parameters:
  normalize: false
  int8_mask: true
  lambda: 1.0
tokenizer_source: base
dtype: bfloat16
"""
NUSLERP = """
models:
  - {model: A, parameters: {weight: 0.5}}
  - {model: B, parameters: {weight: 0.5}}
merge_method: nuslerp
"""
BREADCRUMBS = """
merge_method: breadcrumbs_ties
base_model: base
models:
  - {model: A, parameters: {weight: 0.5, density: 0.9, gamma: 0.01}}
  - {model: B, parameters: {weight: 0.5, density: 0.9, gamma: 0.01}}
slices:
"""
SHAPES = {
    "slerp": SLERP,
    "dare_ties": DARE_TIES,
    "ties": TIES,
    "passthrough": PASSTHROUGH,
    "model_stock": MODEL_STOCK,
    "task_arithmetic": TASK_ARITHMETIC,
    "linear": LINEAR,
    "della_linear": DELLA,
    "nuslerp": NUSLERP,
    "breadcrumbs_ties": BREADCRUMBS,
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_common_shape_is_read_and_fits_the_schema(name):
    (document,) = loads(SHAPES[name])
    assert document.method.name == name
    errors = list(
        Draft202012Validator(json_schema()).iter_errors(YAML(typ="safe", pure=True).load(SHAPES[name]))
    )
    assert not errors, errors[0].message


def test_slerp_of_slices():
    (document,) = loads(SLERP)
    (part,) = document.parts
    assert document.stacked
    assert part.layers == 32
    assert part.base is not None
    assert str(part.base.ref) == "OpenPipe/mistral-ft-optimized-1218"
    assert [str(source.ref) for source in part.merged] == ["mlabonne/NeuralHermes-2.5-Mistral-7B"]
    assert document.output_dtype == "BF16"
    options = options_for(document)
    middle = Position.layer(0, 8, 33)
    assert options.for_tensor("model.layers.8.self_attn.q_proj.weight", middle).options == {"t": 0.5}
    assert options.for_tensor("model.layers.8.mlp.up_proj.weight", Position.layer(0, 31, 32)).options == {
        "t": 0.0
    }
    assert options.for_tensor("model.embed_tokens.weight", Position.before()).options == {"t": 0.5}


def test_dare_ties_skips_the_base_and_says_what_changes_nothing():
    (document,) = loads(DARE_TIES, "config.yml")
    (part,) = document.parts
    assert not document.stacked
    assert part.base is part.sources[0]
    assert [str(source.ref) for source in part.merged] == [
        "samir-fama/SamirGPT-v1",
        "abacusai/Slerp-CM-mist-dpo",
    ]
    values = options_for(document).for_tensor("x", Position.before())
    assert values.parameters == ({"weight": 0.4, "density": 0.53}, {"weight": 0.3, "density": 0.53})
    assert values.options["normalize"] is False
    assert values.options["rescale"] == "true"
    assert document.notes == ("config.yml:16: `int8_mask` changes nothing in `dare_ties` and is ignored.",)


def test_ties_gradient_and_filter():
    options = options_for(loads(TIES)[0])
    (first, second) = options.for_tensor(
        "model.layers.0.mlp.up_proj.weight", Position.layer(0, 0, 32)
    ).parameters
    assert (first["density"], second["weight"]) == (1.0, 0.5)
    (first, second) = options.for_tensor("lm_head.weight", Position.after()).parameters
    assert (first["density"], second["weight"]) == (0.1, 0.0)


def test_a_frankenmerge_keeps_its_slices():
    (document,) = loads(PASSTHROUGH)
    assert [part.layers for part in document.parts] == [20, 20]
    assert [part.merged[0].layer_range for part in document.parts] == [(0, 20), (10, 30)]
    options = options_for(document)
    name = "model.layers.12.self_attn.o_proj.weight"
    assert options.for_tensor(name, Position.layer(0, 12, 20)).parameters == ({"scale": 1.0},)
    assert options.for_tensor(name, Position.layer(1, 2, 20)).parameters == ({"scale": 0.0},)


def test_a_base_that_is_not_listed_is_added():
    (part,) = loads(MODEL_STOCK)[0].parts
    assert part.base is not None
    assert [str(source.ref) for source in part.sources] == ["A", "B", "C", "base"]
    assert [str(source.ref) for source in part.merged] == ["A", "B", "C"]
    assert loads(MODEL_STOCK)[0].output_dtype == "BF16"


def test_the_base_of_linear_is_one_more_model_only_where_it_is_listed():
    (document,) = loads(LINEAR + "base_model: A\n")
    assert document.parts[0].base is None
    assert [str(source.ref) for source in document.parts[0].merged] == ["A", "B"]
    assert not document.notes
    (document,) = loads(LINEAR + "base_model: C\n", "config.yml")
    assert [str(source.ref) for source in document.parts[0].merged] == ["A", "B"]
    assert str(document.donor) == "C"
    assert document.notes == (
        "config.yml:12: `linear` merges the models that are listed; `base_model` gives configuration and "
        "tokenizer only.",
    )


def test_parameters_without_effect_are_noted():
    (document,) = loads(TASK_ARITHMETIC, "config.yml")
    assert document.notes == (
        "config.yml:5: `density` changes nothing in `task_arithmetic` and is ignored.",
        "config.yml:7: `int8_mask` changes nothing in `task_arithmetic` and is ignored.",
    )
    text = (
        "merge_method: slerp\nmodels: [{model: A}, {model: B}]\n"
        "parameters: {t: 0.5, normalize: true, rescale: false}"
    )
    (document,) = loads(text, "c.yml")
    assert document.notes == (
        "c.yml:2: no `base_model`: `t: 0` is the model listed first, `A`.",
        "c.yml:3: `normalize` changes nothing in `slerp` and is ignored.",
        "c.yml:3: `rescale` changes nothing in `slerp` and is ignored.",
    )
    base = (
        "merge_method: ties\nbase_model: A\nmodels:\n- model: A\n  parameters: {weight: 1}\n"
        "- {model: B, parameters: {weight: 1}}"
    )
    assert loads(base, "c.yml")[0].notes == (
        "c.yml:5: `weight` changes nothing for the base model and is ignored.",
    )
    sliced = PASSTHROUGH + "  residual_weight: 0.5\n"
    assert "`residual_weight` changes nothing" in loads(sliced)[0].notes[0]


def test_numbers_and_booleans_as_yaml_1_1_wrote_them():
    (document,) = loads(LINEAR + "parameters: {normalize: no}\n")
    values = options_for(document).for_tensor("x", Position.before())
    assert values.options == {"normalize": False}
    assert values.parameters[1] == {"weight": 0.3}
    assert values.options["normalize"] is False


def test_merge_keys_and_aliases_are_read():
    text = """
    merge_method: linear
    models:
      - model: A
        parameters: &same {weight: 1e-3}
      - model: B
        parameters: *same
      - model: C
        parameters: {<<: *same}
      - model: D
        parameters: {<<: *same, weight: 2}
    """
    values = options_for(loads(text)[0]).for_tensor("x", Position.before())
    assert [own["weight"] for own in values.parameters] == [0.001, 0.001, 0.001, 2.0]
