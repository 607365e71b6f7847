"""Values tensor by tensor: gradients, filters, levels, variants, against a plain reading of the rules."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrick import methods
from carrick.config import Position, load, options_for
from carrick.config.settings import along
from carrick.errors import ConfigError

NAMES = ["model.layers.1.mlp.up_proj.weight", "model.layers.1.self_attn.q_proj.weight", "lm_head.weight"]
FINITE = st.floats(-1e6, 1e6)
PLACES = st.floats(0, 1)


def oracle(setting, name, t):
    """What a written setting means for one tensor; None: it says nothing about it."""
    if isinstance(setting, list) and isinstance(setting[0], dict):
        for entry in setting:
            if entry.get("filter") in (None, "*") or entry["filter"] in name:
                return oracle(entry["value"], name, t)
        return None
    if not isinstance(setting, list):
        return setting
    place = t * (len(setting) - 1)
    if isinstance(setting[0], str | bool):
        return setting[int(place)]
    low, high = setting[math.floor(place)], setting[math.ceil(place)]
    return low + (high - low) * (place - math.floor(place))


def linear(weights, parameters=None):
    entries = [
        {"model": f"m{index}", "parameters": {} if weight is None else {"weight": weight}}
        for index, weight in enumerate(weights)
    ]
    return {"merge_method": "linear", "models": entries, "parameters": parameters or {}}


def weights_of(config, name, t):
    values = options_for(load(config)[0]).for_tensor(name, Position(0, t))
    return [own["weight"] for own in values.parameters]


gradients = st.lists(FINITE, min_size=1, max_size=6)
values = FINITE | gradients
conditions = st.lists(
    st.fixed_dictionaries(
        {"filter": st.sampled_from(["mlp", "self_attn", "layers.1.", "*", None]), "value": values}
    ),
    min_size=1,
    max_size=4,
)
settings_ = st.none() | values | conditions


@given(gradients, PLACES)
def test_a_gradient_is_interpolated_linearly(gradient, t):
    got = along(tuple(gradient), t)
    assert got == pytest.approx(oracle(gradient, "", t), rel=1e-12, abs=1e-9)
    assert min(gradient) <= got <= max(gradient)


@given(gradients)
def test_a_gradient_meets_its_ends(gradient):
    assert along(tuple(gradient), 0.0) == gradient[0]
    assert along(tuple(gradient), 1.0) == gradient[-1]
    spread = (
        [along(tuple(gradient), index / (len(gradient) - 1)) for index in range(len(gradient))]
        if len(gradient) > 1
        else []
    )
    assert spread == pytest.approx(gradient[: len(spread)], rel=1e-12, abs=1e-9)


@given(st.lists(st.sampled_from(["weighted", "sum", "frequency"]), min_size=1, max_size=5), PLACES)
def test_words_are_taken_in_steps(words, t):
    assert along(tuple(words), t) == oracle(words, "", t)


@given(settings_, settings_, settings_, st.sampled_from(NAMES), PLACES)
def test_levels_and_filters(own, shared, default, name, t):
    """Model before document before default; a level whose filters do not fit is passed over."""
    config = {
        "merge_method": "passthrough",
        "slices": [
            {
                "sources": [
                    {
                        "model": "A",
                        "layer_range": [0, 4],
                        "parameters": {"scale": own} if own is not None else {},
                    }
                ],
                "parameters": {"scale": shared} if shared is not None else {},
            }
        ],
        "parameters": {"scale": default} if default is not None else {},
    }
    said = [oracle(level, name, t) for level in (own, shared, default) if level is not None]
    expected = next((value for value in said if value is not None), 1.0)
    got = options_for(load(config)[0]).for_tensor(name, Position(0, t)).parameters[0]["scale"]
    assert got == pytest.approx(expected, rel=1e-12, abs=1e-9)


def test_places_in_the_layers():
    assert [Position.layer(0, layer, 5).t for layer in range(5)] == [0, 0.25, 0.5, 0.75, 1]
    assert Position.layer(3, 0, 1).t == 1.0
    assert Position.before().t == 0.0
    assert Position.after().t == 1.0
    assert weights_of(linear([[0, 10]]), "x", Position.layer(0, 1, 5).t) == [2.5]


def test_filters_of_a_model_look_at_its_own_names_and_others_at_the_output():
    config = {
        "merge_method": "ties",
        "base_model": "base",
        "models": [{"model": "A"}, {"model": "B"}],
        "parameters": {
            "weight": [{"filter": "layers.7.", "value": 7}, {"value": 1}],
            "lambda": [{"filter": "layers.3.", "value": 3}, {"value": 1}],
        },
    }
    values = options_for(load(config)[0]).for_tensor(
        "layers.3.mlp", Position(0, 0.5), ["layers.7.mlp", "layers.8.mlp"]
    )
    assert [own["weight"] for own in values.parameters] == [7, 1]
    assert values.options["lambda"] == 3
    values = options_for(load(config)[0]).for_tensor("layers.7.mlp", Position(0, 0.5), ["layers.3.mlp", None])
    assert [own["weight"] for own in values.parameters] == [1, 7]
    assert values.options["lambda"] == 1


def test_a_value_of_a_slice_comes_before_that_of_the_document():
    sources = [{"model": "A", "layer_range": [0, 2]}, {"model": "B", "layer_range": [0, 2]}]
    config = {
        "merge_method": "slerp",
        "base_model": "A",
        "slices": [
            {"sources": sources, "parameters": {"t": [{"filter": "mlp", "value": 0.25}]}},
            {"sources": sources},
        ],
        "parameters": {"t": 0.5},
    }
    options = options_for(load(config)[0])
    assert options.for_tensor("a.mlp", Position.before(0)).options == {"t": 0.25}
    assert options.for_tensor("a.norm", Position.before(0)).options == {"t": 0.5}
    assert options.for_tensor("a.mlp", Position.after()).options == {"t": 0.5}


def test_a_written_value_comes_before_the_variant_and_that_before_the_table():
    config = {
        "merge_method": "ties",
        "base_model": "base",
        "variant": "reference",
        "models": [{"model": "A", "parameters": {"weight": 1}}],
        "parameters": {"zero_vote": "none", "rescale": True},
    }
    (document,) = load(config)
    options = options_for(document)
    assert options.merge == {"trim_scope": "model", "zero_vote": "none"}
    values = options.for_tensor("x", Position.before())
    assert values.options == {
        "normalize": True,
        "lambda": 1.0,
        "rescale": "true",
        "trim_scope": "model",
        "kept_count": "floor_plus_one",
        "at_threshold": "all",
        "vote": "sum",
        "zero_vote": "none",
        "aggregate": "mean",
    }
    assert values.parameters == ({"weight": 1.0, "density": 1.0},)
    del config["variant"]
    config["parameters"]["variant"] = "peft"
    assert load(config)[0].variant == "peft"


@pytest.mark.parametrize(
    "name", ["ties", "dare_linear", "dare_ties", "della", "breadcrumbs", "magnitude_prune"]
)
def test_every_option_is_spelt_out(name):
    config = {
        "merge_method": name,
        "base_model": "base",
        "models": [{"model": "A", "parameters": {"weight": 1}}],
    }
    values = options_for(load(config)[0]).for_tensor("x", Position.before())
    method = methods.load()[name]
    assert set(values.options) == {row.name for row in method.parameters if row.scope != "model"}
    assert set(values.parameters[0]) == {row.name for row in method.parameters if row.scope == "model"}
    assert all(values.options[row.name] == row.default for row in method.parameters if row.scope != "model")


def test_booleans_in_steps():
    config = linear([1, 2], {"normalize": [True, False]})
    options = options_for(load(config)[0])
    assert [options.for_tensor("x", Position(0, t)).options["normalize"] for t in (0.0, 0.99, 1.0)] == [
        True,
        True,
        False,
    ]


def test_a_required_value_that_fits_no_tensor_is_an_error_that_names_both():
    config = linear([[{"filter": "mlp", "value": 1}]])
    options = options_for(load(config)[0])
    assert options.for_tensor("a.mlp", Position.before()).parameters == ({"weight": 1.0},)
    with pytest.raises(
        ConfigError,
        match=r"^models\[0\]: no `weight` of `m0` fits the tensor `lm_head.weight`; add a `value`",
    ):
        options.for_tensor("lm_head.weight", Position.after())


@pytest.mark.parametrize(
    ("density", "epsilon", "fits"),
    [
        (0.5, 0.15, True),
        (0.1, 0.15, False),
        (0.9, 0.1, False),
        (1.0, 0.15, True),
        (0.0, 0.15, True),
        (0.9, 0.09, True),
    ],
)
def test_probabilities_of_della_lie_between_0_and_1(density, epsilon, fits):
    config = {
        "merge_method": "della",
        "base_model": "base",
        "models": [{"model": "A", "parameters": {"weight": 1, "density": density, "epsilon": epsilon}}],
    }
    options = options_for(load(config)[0])
    if fits:
        options.for_tensor("x", Position.before())
    else:
        with pytest.raises(
            ConfigError, match=r"make probabilities from .* for `x`; they have to lie between 0 and 1"
        ):
            options.for_tensor("x", Position.before())
