"""A name that is not known is refused with its line and the nearest valid name."""

import pytest

from carrick import methods
from carrick.config import Position, load, options_for
from carrick.config.keys import MERGEKIT_PARAMETERS
from carrick.errors import ConfigError

PAIR = "models: [{model: A, parameters: {weight: 1}}, {model: B, parameters: {weight: 2}}]\n"
SLERP = "merge_method: slerp\nbase_model: A\nmodels: [{model: A}, {model: B}]\n"


def ties(models="- {model: A, parameters: {weight: 1}}", rest=""):
    return f"merge_method: ties\nbase_model: base\nmodels:\n{models}\n{rest}"


MISTAKES = {
    "misspelt method": (
        "merge_method: tise\n" + PAIR,
        1,
        "`tise` is not a merge method; did you mean `ties`?",
    ),
    "unknown method": (
        "\nmerge_method: 42x\n" + PAIR,
        2,
        "`42x` is not a merge method; the methods are linear, task_",
    ),
    "mergekit's method": (
        "merge_method: karcher\n" + PAIR,
        1,
        "mergekit's `karcher` is not available here; the methods are linear, ",
    ),
    "no method": (PAIR, 1, "`merge_method` is missing; it is one of linear, task_arithmetic, ties, "),
    "misspelt merge_method": (
        PAIR + "merge_metod: ties",
        2,
        "`merge_metod` is not a key of a configuration; did you mean `merge_method`?",
    ),
    "misspelt top-level key": (
        ties(rest="base_modle: A\n"),
        5,
        "`base_modle` is not a key of a configuration; did you mean `base_model`?",
    ),
    "unknown top-level key": (
        ties(rest="zzz: A\n"),
        5,
        "`zzz` is not a key of a configuration; the keys here are merge_",
    ),
    "parameter at the top": (
        ties(rest="density: 1\n"),
        5,
        "`density` is a parameter of `ties`; write it under `parameters`",
    ),
    "top-level key below": (
        ties(rest="parameters: {seed: 1}\n"),
        5,
        "`seed` is not a parameter; write it at the top",
    ),
    "misspelt parameter": (
        ties("- model: A\n  parameters:\n    weight: 1\n    denisty: 0.5"),
        7,
        "`denisty` is not a parameter of `ties`; did you mean `density`?",
    ),
    "unknown parameter": (
        ties(rest="parameters: {zzz: 1}\n"),
        5,
        "`zzz` is not a parameter of `ties`; its parameters are weight, density, normalize, ",
    ),
    "parameter of another method": (
        ties(rest="parameters: {partition: A}\n"),
        5,
        "`partition` is not a parameter of `ties` (layer_swap takes it); remove it, or use one of weight, ",
    ),
    "parameter of Carrick's own": (
        "merge_method: linear\n" + PAIR + "parameters: {vote: sum}",
        3,
        "`vote` is not a parameter of `linear` (ties, dare_ties, ",
    ),
    "parameter of a method without variants": (
        f"{SLERP}parameters: {{t: 0.5, trim_scope: model}}",
        4,
        "remove it, or use one of t$",
    ),
    "misspelt parameter of a method without variants": (
        f"{SLERP}parameters: {{t: 0.5, zzz: 1}}",
        4,
        "`zzz` is not a parameter of `slerp`; its parameters are t$",
    ),
    "parameter of a method with variants": (
        ties(rest="parameters: {partition: A}\n"),
        5,
        ", aggregate, variant$",
    ),
    "misspelt key of a model": (
        ties("- {modle: A}"),
        4,
        "`modle` is not a key of an entry of `models`; did you mean `model`?",
    ),
    "misspelt key of a condition": (
        ties("- {model: A, parameters: {weight: [{fliter: mlp, value: 1}]}}"),
        4,
        "`fliter` is not a key of a condition of `weight`; did you mean `filter`?",
    ),
    "misspelt dtype": (
        ties(rest="dtype: bfloat\n"),
        5,
        "`dtype` is `bfloat`, which is not a type to merge in; did you mean `bfloat16`?",
    ),
    "integer dtype": (
        ties(rest="out_dtype: int64\n"),
        5,
        "`out_dtype` is `int64`, which is not a type to merge in",
    ),
    "misspelt variant": (
        ties(rest="variant: papr\n"),
        5,
        "the variant of `ties` is `papr`; did you mean `paper`?",
    ),
    "variant of none": (
        "merge_method: linear\n" + PAIR + "variant: paper",
        3,
        "`linear` has no variants; remove `variant`",
    ),
    "two variants": (
        ties(rest="variant: paper\nparameters: {variant: peft}\n"),
        6,
        "`variant` is given twice, here and at the top of the document",
    ),
    "misspelt choice": (
        ties(rest="parameters: {vote: frequancy}\n"),
        5,
        "`vote` is `frequancy`; it has to be `weighted` or `sum` or `frequency`; did you mean `frequency`?",
    ),
    "misspelt policy": (ties(rest="tie: kep\n"), 5, "`tie` is `kep`; did you mean `keep`?"),
    "misspelt template": (
        ties(rest="chat_template: chatlm\n"),
        5,
        "which is not a known template; did you mean `chatml`?",
    ),
    "misspelt role": (
        ties(rest="roles: {atention: x}\n"),
        5,
        "`atention` is not a role of tensors; did you mean `attention`?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line(name, refused):
    text, line, message = MISTAKES[name]
    error = refused(text)
    # A `$` stands for the end, where a message lists what there is.
    assert message in f"{error.message}$", error.message
    assert error.line == line, error


IGNORED = [
    ("linear", "density"),
    ("linear", "rescale"),
    ("linear", "lambda"),
    ("model_stock", "density"),
    ("model_stock", "weight"),
    ("dare_ties", "epsilon"),
    ("slerp", "lambda"),
    ("slerp", "weight"),
    ("ties", "t"),
    ("ties", "filter_wise"),
    ("nuslerp", "normalize"),
    ("passthrough", "density"),
]


@pytest.mark.parametrize(("method", "name"), IGNORED)
@pytest.mark.parametrize("level", ["document", "slice", "model"])
def test_a_parameter_that_mergekit_knows_and_the_method_ignores_gets_a_note(method, name, level):
    row = methods.load()[method]
    assert row.parameter(name) is None
    needed = {parameter.name: 0.5 for parameter in row.parameters if parameter.required}
    sources = [{"model": f"m{i}", "layer_range": [0, 2]} for i in range(max(row.min_models, 1))]
    if row.base == "required":
        sources.append({"model": "base", "layer_range": [0, 2]})
    config = {"merge_method": method, "parameters": dict(needed), "slices": [{"sources": sources}]}
    if row.base == "required":
        config["base_model"] = "base"
    holder = {"document": config, "slice": config["slices"][0], "model": sources[0]}[level]
    holder["parameters"] = {**holder.get("parameters", {}), name: 0.7}
    (document,) = load(config)
    said = [
        note for note in document.notes if f"`{name}` changes nothing in `{method}` and is ignored." in note
    ]
    assert len(said) == 1
    given = options_for(document).for_tensor("x", Position.before())
    assert name not in given.options
    assert not any(name in own for own in given.parameters)


def test_a_parameter_of_a_method_that_is_mergekits_alone_is_a_slip():
    config = {"merge_method": "della", "base_model": "base", "models": [{"model": "a"}]}
    with pytest.raises(ConfigError, match="did you mean `epsilon`"):
        load(config | {"parameters": {"weight": 1.0, "eps": 0.1}})


def test_the_names_of_mergekit_are_no_names_of_our_own():
    own = {"partition", "trim_scope", "kept_count", "at_threshold", "vote", "zero_vote", "aggregate"}
    assert not own & MERGEKIT_PARAMETERS
    known = {parameter.name for method in methods.load().values() for parameter in method.parameters}
    assert own <= known
