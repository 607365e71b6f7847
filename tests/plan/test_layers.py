"""Layers told by names alone."""

from __future__ import annotations

import pytest

from carrick.checkpoints.layers import Stack, find_stacks, locate, main_stack, without_appended

PARTS = ("attn.weight", "mlp.weight", "norm.weight")


def stack(prefix: str, count: int, size: int = 1, parts: tuple[str, ...] = PARTS) -> dict[str, int]:
    return {f"{prefix}.{n}.{part}": size for n in range(count) for part in parts}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("model.layers.12.mlp.up_proj.weight", ("model.layers", 12, "mlp.up_proj.weight")),
        ("h.7.attn.c_attn.bias", ("h", 7, "attn.c_attn.bias")),
        ("transformer.h.0.ln_1.weight", ("transformer.h", 0, "ln_1.weight")),
        ("bert.encoder.layer.3.output.dense.bias", ("bert.encoder.layer", 3, "output.dense.bias")),
        (
            "encoder.block.0.layer.1.DenseReluDense.wi.weight",
            ("encoder.block", 0, "layer.1.DenseReluDense.wi.weight"),
        ),
        ("model.layers.3.mlp.experts.5.w1.weight", ("model.layers", 3, "mlp.experts.5.w1.weight")),
        ("experts.5.layers.3.w.weight", ("experts.5.layers", 3, "w.weight")),
        ("vision_tower.layers.1.w.bias", ("vision_tower.layers", 1, "w.bias")),
    ],
)
def test_locate(name: str, place: tuple[str, int, str]) -> None:
    assert locate(name) == place


@pytest.mark.parametrize(
    "name", ["lm_head.weight", "experts.5.w1.weight", "a.1234567.b", "model.norm.0", "x"]
)
def test_names_without_a_layer(name: str) -> None:
    assert locate(name) is None


def test_expert_numbers_make_no_stack() -> None:
    names = {
        f"model.layers.{n}.experts.{e}.w{i}.weight": 1 for n in range(3) for e in range(8) for i in range(3)
    }
    assert [(s.prefix, s.count) for s in find_stacks(names)] == [("model.layers", 3)]


def test_sequential_containers_are_no_stack() -> None:
    names = {f"head.{n}.{p}": 1 for n in range(2) for p in ("weight", "bias")}
    assert find_stacks(names) == []


def test_numbers_with_holes_are_no_stack() -> None:
    names = stack("layers", 4)
    assert find_stacks({n: s for n, s in names.items() if not n.startswith("layers.2.")}) == []


def test_encoder_decoder_has_two_stacks_and_no_main_one() -> None:
    stacks = find_stacks(stack("encoder.block", 3) | stack("decoder.block", 3))
    assert stacks == [Stack("encoder.block", 3, 9), Stack("decoder.block", 3, 9)]
    assert main_stack(stacks, {"num_layers": 3}) is None


def test_language_model_is_the_main_stack_beside_a_vision_tower() -> None:
    stacks = find_stacks(stack("vision.layers", 4) | stack("language.layers", 6, size=10))
    config = {"text_config": {"model_type": "llama", "num_hidden_layers": 6}}
    found = main_stack(stacks, config)
    assert found is not None
    assert found.prefix == "language.layers"
    assert main_stack(stacks, {"num_hidden_layers": 5}) is None


def test_prediction_layers_are_taken_off() -> None:
    stacks = find_stacks(stack("model.layers", 5))
    assert without_appended(stacks, {"num_hidden_layers": 4, "num_nextn_predict_layers": 1})[0].count == 4
    assert without_appended(stacks, {"num_hidden_layers": 5, "num_nextn_predict_layers": 1})[0].count == 5
    assert without_appended(stacks, None)[0].count == 5
