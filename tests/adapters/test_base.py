"""The tensor of the base that a module changes, and which way round it is stored."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.dense import applied
from carrick.adapters.adapter import LoraModule, read_adapter
from carrick.adapters.keys import base_name, orientations
from carrick.checkpoints import StoredTensor
from carrick.errors import PlanError


def module(path: str, out: int = 4, inputs: int = 6, *, transposed: bool = False) -> LoraModule:
    a, b = (StoredTensor(0, 0, 0, "F32", shape) for shape in ((2, inputs), (out, 2)))
    return LoraModule(path, "linear", a, b, "a", "b", 2, 2, 1.0, transposed)


@pytest.mark.parametrize(
    ("path", "names", "expected"),
    [
        ("model.h.0.q", ["model.h.0.q.weight", "h.0.q.weight"], "model.h.0.q.weight"),
        ("model.h.0.q", ["h.0.q.weight", "h.10.q.weight"], "h.0.q.weight"),
        ("h.0.q", ["model.h.0.q.weight", "model.h.10.q.weight", "xh.0.q.weight"], "model.h.0.q.weight"),
        ("transformer.h.0.q", ["h.0.q.weight"], "h.0.q.weight"),
    ],
)
def test_base_name(path, names, expected):
    assert base_name(module(path), names) == expected


def test_base_name_of_none_and_of_two():
    with pytest.raises(
        PlanError, match=r"model.h.0.q: the base has no tensor .*did you mean `model.h.0.k.weight`"
    ):
        base_name(module("model.h.0.q"), ["model.h.0.k.weight", "other"])
    with pytest.raises(PlanError, match=r"h.0.q: could be a.h.0.q.weight or b.h.0.q.weight"):
        base_name(module("h.0.q"), ["b.h.0.q.weight", "a.h.0.q.weight"])
    with pytest.raises(PlanError, match="no tensor"):  # the last part of a name alone says too little
        base_name(module("model.q"), ["q.bias", "weight"])


def test_shapes_decide_the_orientation():
    modules = [module("h.0.wide"), module("h.0.square", 5, 5), module("head", 5, 5, transposed=True)]
    shapes = {"h.0.wide": (6, 4), "h.0.square": (5, 5), "head": (5, 5)}
    assert orientations(modules, shapes) == {"h.0.wide": True, "h.0.square": True, "head": True}
    shapes["h.0.wide"] = (4, 6)
    assert orientations(modules, shapes) == {"h.0.wide": False, "h.0.square": False, "head": True}


def test_a_base_of_another_size():
    with pytest.raises(
        PlanError, match=r"h.0.wide: changes a weight of 4 × 6, and the base's has the shape \[4, 7\]"
    ):
        orientations([module("h.0.wide")], {"h.0.wide": (4, 7)})


def test_the_flag_of_a_mixed_model_is_not_believed(made):
    # PEFT writes what the last module it wrapped was: the head of GPT-2 is an ordinary linear layer.
    case = made("gpt2_head")
    adapter = read_adapter(case.folder)
    assert not adapter.config.fan_in_fan_out
    found = applied(adapter, case.base)
    square = "transformer.h.0.attn.c_proj.weight"
    np.testing.assert_allclose(found[square], case.merged[square], atol=1e-12)
