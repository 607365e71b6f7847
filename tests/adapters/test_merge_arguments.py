"""Arguments of `carrick.adapters.merge` that Python code can get wrong, and those that it may give as a YAML does."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.handmade import HIDDEN, base_tensors, write_base
from adapters.merging import Q, V, distance, lora, result
from carrick.adapters import merge
from carrick.adapters.dense import merge_into_base
from carrick.errors import ConfigError
from oracles.files import read_model

SHAPES = {Q.format(0): (HIDDEN, HIDDEN), V.format(0): (HIDDEN, HIDDEN)}


@pytest.fixture
def pair(tmp_path):
    return [lora(seed, SHAPES).write(tmp_path / name) for seed, name in enumerate(("en", "de"))]


@pytest.mark.parametrize(
    ("weights", "what"),
    [
        (
            {"en": 1, "de": 2},
            r"^`weights` is \{'en': 1, 'de': 2\}; give a list .* in their order, such as \[1",
        ),
        ({1.0, 2.0}, r"^`weights` is \{1\.0, 2\.0\}; give a list"),
        (2, "^`weights` is 2; give a list"),
        ("12", "^`weights` is '12'; give a list"),
        ([1], "^1 weights for 2 adapters; give one for each"),
        ([1, "x"], r"^weight 2 is 'x'; give a number, or a list of \{filter, value\}"),
        ([None, 1], "^weight 1 is None; give a number"),
        ([{"en": 2}, 1], r"^weight 1 is \{'en': 2\}; give a number"),
        ([[{"filter": "q_proj"}], 1], r"models\[0\]\.parameters\.weight"),
    ],
)
def test_weights_that_are_none(weights, what, pair, tmp_path):
    with pytest.raises(ConfigError, match=what):
        merge(pair, weights=weights)
    with pytest.raises(ConfigError, match=what):
        merge_into_base(tmp_path, pair, tmp_path / "out", weights=weights)
    assert not (tmp_path / "out").exists()


def test_parameters_without_names(pair):
    with pytest.raises(ConfigError, match=r"^`parameters` is 'lambda'; give a mapping of names to values"):
        merge(pair, parameters="lambda")


@pytest.mark.parametrize("kind", [list, tuple])
def test_weights_by_module(kind, pair):
    by_module = kind([{"filter": "q_proj", "value": -0.5}, {"value": 2}])
    one, other = (lora(seed, SHAPES).updates() for seed in range(2))
    want = {path: (-0.5 if "q_proj" in path else 2) * one[path] + 3 * other[path] for path in SHAPES}
    assert distance(result(merge(pair, weights=[by_module, 3])), want) <= 1e-6


def test_weights_by_tensor_of_the_base(pair, tmp_path):
    before = base_tensors() | {
        f"{path}.weight": np.zeros(shape, np.float32) for path, shape in SHAPES.items()
    }
    base = write_base(tmp_path / "base", before)
    merge_into_base(
        base, pair, tmp_path / "out", weights=[[{"filter": "q_proj", "value": 2}, {"value": 0}], 1]
    )
    one, other = (lora(seed, SHAPES).updates() for seed in range(2))
    got = read_model(tmp_path / "out")
    for path in SHAPES:
        want = (2 if "q_proj" in path else 0) * one[path] + other[path]
        np.testing.assert_allclose(got[f"{path}.weight"], want, atol=1e-5)


@pytest.mark.parametrize("kind", [np.array, tuple])
def test_weights_in_any_order_that_is_one(kind, pair):
    one, other = (lora(seed, SHAPES).updates() for seed in range(2))
    want = {path: 0.5 * one[path] - other[path] for path in SHAPES}
    assert distance(result(merge(pair, weights=kind([0.5, -1.0]))), want) <= 1e-6
