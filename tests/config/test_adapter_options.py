"""What only merges of adapters are asked, and what their methods default to."""

import pytest

from carrick.config import load
from carrick.errors import ConfigError

TIES = {"merge_method": "ties", "models": [{"model": "a"}, {"model": "b"}]}


def test_adapters_need_no_base_and_weigh_one():
    (document,) = load(TIES, adapters=True)
    assert document.parts[0].base is None
    assert document.method.parameter("weight").default == 1.0
    assert document.method.parameter("normalize").default is False
    assert document.variant == "peft"
    assert document.adapter.rank is None
    with pytest.raises(ConfigError, match="base_model"):
        load(TIES)


def test_knots_keeps_the_published_reading():
    (document,) = load(TIES | {"merge_method": "knots_ties"}, adapters=True)
    assert document.variant is None
    assert document.method.parameter("zero_vote").default == "majority"


def test_options_are_read():
    wanted = {"rank": 8, "space": "factors", "precision": "float64", "modules_to_save": "merge"}
    (document,) = load(TIES | wanted, adapters=True)
    found = document.adapter
    assert {name: getattr(found, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, r"`rank` is `0`; it has to be a whole number from 1 to 1048576"),
        ({"rank": -1}, r"`rank` is `-1`; it has to be a whole number from 1 to 1048576"),
        ({"rank": "x"}, "`rank`"),
        ({"energy": 0}, "above 0"),
        ({"energy": 1.5}, "up to 1"),
        ({"energy": True}, "above 0"),
        ({"rank": 1, "energy": 0.5}, "remove one"),
        ({"space": "deltas"}, "delta"),
        ({"precision": "bfloat16"}, "did you mean `float64`"),
        ({"merge_method": "slerp"}, "merges whole checkpoints"),
        ({"merge_method": "model_stock"}, "merges whole checkpoints"),
    ],
)
def test_what_adapters_cannot_be_asked(change, message):
    with pytest.raises(ConfigError, match=message):
        load(TIES | change, adapters=True)


@pytest.mark.parametrize("key", ["rank", "energy", "space", "precision", "modules_to_save"])
def test_checkpoints_have_none_of_it(key):
    config = TIES | {"base_model": "x", "parameters": {"weight": 1}, key: 1}
    with pytest.raises(ConfigError, match=f"`{key}` belongs to a merge of adapters"):
        load(config)


def test_a_basis_of_checkpoints_may_have_a_rank():
    config = TIES | {"merge_method": "knots_ties", "base_model": "x", "rank": 4}
    (document,) = load(config)
    assert document.adapter.rank == 4
    with pytest.raises(ConfigError, match="`energy` belongs"):
        load(config | {"energy": 0.5})


def test_cat_is_for_adapters():
    config = {"merge_method": "cat", "models": [{"model": "a"}, {"model": "b"}]}
    load(config, adapters=True)
    with pytest.raises(ConfigError, match="task_arithmetic"):
        load(config)


@pytest.mark.parametrize("place", ["document", "model"])
def test_adapters_have_nothing_outside_layers(place):
    """Every module has a basis; the method's row says nothing of it, and what asks for it is told why."""
    config = TIES | {"merge_method": "knots_ties"}
    (document,) = load(config, adapters=True)
    assert document.method.parameter("outside_layers") is None
    given = {"parameters": {"outside_layers": "basis"}}
    config |= given if place == "document" else {"models": [{"model": "a"} | given, {"model": "b"}]}
    with pytest.raises(
        ConfigError, match=r"belongs to a merge of checkpoints, and the models .* each of their modules"
    ):
        load(config, adapters=True)


def test_methods_without_a_basis_have_nothing_outside_layers():
    with pytest.raises(ConfigError, match=r"not a parameter of `ties` .knots_linear, .* take it"):
        load(TIES | {"base_model": "x", "parameters": {"weight": 1, "outside_layers": "base"}})
    with pytest.raises(ConfigError, match=r"not a parameter of `ties` .knots_linear, .* take it"):
        load(TIES | {"parameters": {"outside_layers": "base"}}, adapters=True)
