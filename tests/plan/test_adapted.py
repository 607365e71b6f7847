"""Models with adapters as inputs of any method: what is planned, and that it merges as merged copies would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import carrick
from adapters.handmade import (
    DOWN,
    HIDDEN,
    VOCABULARY,
    Handmade,
    Q,
    adapter,
    base_tensors,
    folded,
    shapes,
    write_base,
)
from carrick import methods
from carrick.errors import PlanError
from oracles import ties
from plan.adapted_models import ADAPTED, ALONE, PLAIN, World, described, ties_of
from plan.tiny import job_of

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.plan import Plan


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_updates_are_planned_without_the_base(world: World) -> None:
    plan = carrick.plan(ties_of(world, world.put_on))
    job = job_of(plan, ADAPTED)
    assert [(i.base, i.delta, i.index) for i in job.inputs] == [
        (True, False, None),
        (False, True, 0),
        (False, True, 1),
    ]
    update = described(job, 2)
    assert update.blocks == []
    (product,) = update.products
    assert (product.rank, product.scale) == (3, 2.0)
    assert not product.left.transposed
    assert not product.right.transposed
    # A tensor that one of them leaves alone gets zeros from it, one that both leave alone is the base's.
    zeros = described(job_of(plan, ALONE), 1)
    assert (zeros.blocks, zeros.products) == ([], [])
    assert job_of(plan, ALONE).inputs[1].delta
    assert job_of(plan, PLAIN).method == "copy"
    assert len(job_of(plan, PLAIN).inputs) == 1


def test_without_the_base_whole_tensors_are_planned(world: World) -> None:
    config = {
        "merge_method": "linear",
        "models": [{"model": m, "parameters": {"weight": 1}} for m in world.put_on],
    }
    job = job_of(carrick.plan(config), ADAPTED)
    assert [len(described(job, n).blocks) for n in (0, 1)] == [1, 1]
    assert not any(i.delta for i in job.inputs)


def test_a_model_of_another_base_keeps_its_weights(world: World) -> None:
    other = write_base(world.root / "Y", base_tensors(5))
    plan = carrick.plan(ties_of(world, [world.put_on[0], f"{other}+{world.adapters[1]}", other]))
    first, second, third = job_of(plan, ADAPTED).inputs[1:]
    assert first.delta
    assert not second.delta
    assert not third.delta
    # The same base in another spelling is the same base.
    relative = f"{world.x.parent}/./{world.x.name}/+{world.adapters[0]}"
    assert job_of(carrick.plan(ties_of(world, [relative])), ADAPTED).inputs[1].delta
    # The base with another adapter on top is another model, too: what is added to it is known all the same.
    plan = carrick.plan(
        ties_of(world, [f"{world.put_on[0]}+{world.adapters[1]}"], base_model=world.put_on[0])
    )
    job = job_of(plan, ADAPTED)
    assert not job.inputs[1].delta
    assert [len(described(job, n).products) for n in (0, 1)] == [1, 2]


@pytest.mark.parametrize("variant", ["mergekit", "peft", "paper", "reference"])
@pytest.mark.parametrize("density", [0.3, 1.0])
def test_ties_is_that_of_the_exact_updates(variant: str, density: float, tmp_path: Path) -> None:
    """The base is so large that a difference of float32 weights would show another update."""
    rng = np.random.default_rng(3)
    world = World(tmp_path)
    world.base = {
        name: (1e6 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes().items()
    }
    write_base(world.x, world.base)
    models = [
        {"model": m, "parameters": {"weight": w, "density": density}}
        for m, w in zip(world.put_on, (1, 0.7), strict=True)
    ]
    config = ties_of(world, [], variant=variant) | {"models": models}
    merged = world.merge(config, "out")
    updates = [made.updates() for made in world.made]
    names = sorted(updates[0] | updates[1])
    assert {name for name in merged if not np.array_equal(merged[name], world.base[name])} == set(names)
    zeros = {name: np.zeros(shapes()[name], np.float32) for name in names}
    deltas = [{name: found.get(name, zeros[name]).astype(np.float32) for name in names} for found in updates]
    expected = ties.merge(zeros, deltas, weight=[1, 0.7], density=[density] * 2, variant=variant)
    for name in names:
        want = expected[name].value + world.base[name].astype(np.float64)
        bound = expected[name].bound + 2.0**-23 * (np.abs(want) + np.abs(expected[name].value))
        error = np.abs(merged[name].astype(np.float64) - want)
        assert (error <= bound).all(), (name, error.max())


TASK_VECTOR = [name for name, method in methods.load().items() if method.family == "task_vector"]


@pytest.mark.parametrize("method", TASK_VECTOR)
def test_task_vectors_are_those_of_merged_copies(method: str, world: World) -> None:
    row = methods.load()[method]
    own = {"weight": 0.5, "density": 0.4, "epsilon": 0.1, "gamma": 0.05}
    parameters = {name: value for name, value in own.items() if row.parameter(name) is not None}
    results = []
    for number, models in enumerate((world.put_on, world.dense)):
        listed = [{"model": str(model), "parameters": parameters} for model in models]
        config = {"merge_method": method, "base_model": str(world.x), "models": listed, "seed": 7}
        results.append(world.merge(config, f"out{number}"))
    for name in world.base:
        np.testing.assert_array_equal(results[0][name], results[1][name], err_msg=f"{method}: {name}")


WHOLE: dict[str, dict[str, Any]] = {
    "linear": {"merge_method": "linear", "parameters": {"weight": 0.5}},
    "slerp": {"merge_method": "slerp", "parameters": {"t": 0.3}},
    "nuslerp": {"merge_method": "nuslerp", "parameters": {"weight": 1}},
    "nuslerp on X": {"merge_method": "nuslerp", "parameters": {"weight": 1}, "base_model": "X"},
    "model_stock": {"merge_method": "model_stock", "base_model": "X"},
    "layer_swap": {"merge_method": "layer_swap", "layers": {"first": 1}},
    "slices": {
        "merge_method": "linear",
        "parameters": {"weight": 1},
        "slices": [{"sources": [{"layer_range": [0, 2]}, {"layer_range": [0, 2]}]}],
    },
}


@pytest.mark.parametrize("name", WHOLE)
def test_any_other_method_merges_as_of_merged_copies(name: str, world: World) -> None:
    results = []
    for number, models in enumerate((world.put_on, world.dense)):
        config = dict(WHOLE[name])
        if "base_model" in config:
            config["base_model"] = str(world.x)
        if "slices" in config:
            sources = [
                {**source, "model": str(model)}
                for source, model in zip(config["slices"][0]["sources"], models, strict=True)
            ]
            config["slices"] = [{"sources": sources}]
        else:
            config["models"] = [{"model": str(model)} for model in models]
        results.append(world.merge(config, f"out{number}"))
    for tensor in world.base:
        np.testing.assert_array_equal(results[0][tensor], results[1][tensor], err_msg=tensor)


def test_an_adapter_on_an_intermediate_model(world: World) -> None:
    def documents(model: str) -> list[dict[str, Any]]:
        both = [
            {"model": str(world.x), "parameters": {"weight": 0.5}},
            {"model": str(world.dense[0]), "parameters": {"weight": 0.5}},
        ]
        return [
            {"merge_method": "linear", "models": both, "name": "mid"},
            {"merge_method": "passthrough", "models": [{"model": model}]},
        ]

    carrick.merge(documents(f"mid+{world.adapters[1]}:2"), world.root / "out")
    merged = load_file(world.root / "out" / "model.safetensors")
    expected = folded(world.base, (world.made[0], 0.5), (world.made[1], 2.0))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(merged[name], tensor.astype(np.float32), err_msg=name)


def test_several_adapters_with_weights_and_a_mapping(world: World) -> None:
    model = {
        "model": {"path": str(world.x)},
        "lora": [{"path": str(world.adapters[0]), "weight": -0.5}, f"{world.adapters[1]}:0.25"],
    }
    merged = world.merge({"merge_method": "passthrough", "models": [{"model": model}]}, "out")
    expected = folded(world.base, (world.made[0], -0.5), (world.made[1], 0.25))
    for name, tensor in expected.items():
        np.testing.assert_array_equal(merged[name], tensor.astype(np.float32), err_msg=name)


def test_a_head_that_stands_in_for_the_embeddings_is_adapted_too(world: World) -> None:
    """`tie: untie` reads the embeddings of a tied model as its head: with what an adapter adds to them."""
    tied = {name: tensor for name, tensor in world.base.items() if name != "lm_head.weight"}
    base = write_base(world.root / "tied", tied, tie_word_embeddings=True)
    rng = np.random.default_rng(4)
    a, b = rng.integers(-4, 5, (2, VOCABULARY)), rng.integers(-4, 5, (HIDDEN, 2))
    path = "model.embed_tokens"
    more = {
        f"{path}.lora_embedding_A": a.astype(np.float32),
        f"{path}.lora_embedding_B": b.astype(np.float32),
    }
    embedding = Handmade({}, {}, more).write(world.root / "embedding")
    models = [{"model": m, "parameters": {"weight": 0.5}} for m in (f"{base}+{embedding}", str(world.x))]
    merged = world.merge({"merge_method": "linear", "models": models, "tie": "untie"}, "out")
    adapted = tied[f"{path}.weight"] + (b @ a).T
    np.testing.assert_array_equal(merged["lm_head.weight"], (adapted + world.base["lm_head.weight"]) / 2)
    np.testing.assert_array_equal(merged[f"{path}.weight"], (adapted + tied[f"{path}.weight"]) / 2)
    plan = carrick.plan(
        {"merge_method": "passthrough", "models": [models[0]["model"] and {"model": models[0]["model"]}]}
    )
    assert any("the head is tied to model.embed_tokens.weight and follows" in note for note in plan.notes)


def test_a_head_saved_with_the_embeddings_it_is_tied_to(world: World) -> None:
    """Both trained whole and equal: written once, as the base has them."""
    tied = {name: tensor for name, tensor in world.base.items() if name != "lm_head.weight"}
    base = write_base(world.root / "tied", tied, tie_word_embeddings=True)
    new = np.full((VOCABULARY, HIDDEN), 2, np.float32)
    config = {"modules_to_save": ["embed_tokens", "lm_head"]}
    made = Handmade({}, config, {"model.embed_tokens.weight": new, "lm_head.weight": new})
    folder = made.write(world.root / "whole")
    model = {"model": f"{base}+{folder}"}
    merged = world.merge({"merge_method": "passthrough", "models": [model]}, "out")
    assert merged.keys() == tied.keys()
    np.testing.assert_array_equal(merged["model.embed_tokens.weight"], new)


def test_float64_bases_are_computed_in_float64(world: World) -> None:
    rng = np.random.default_rng(8)
    base = {name: rng.standard_normal(shape) for name, shape in shapes().items()}
    write_base(world.x, base)
    made = adapter(9, dtype=np.float64)
    made.factors = {path: (a / 3, b / 7) for path, (a, b) in made.factors.items()}
    folder = made.write(world.root / "double")
    plan = carrick.plan(ties_of(world, [f"{world.x}+{folder}"]))
    assert {described(job_of(plan, name), 1).dtype for name in made.updates()} == {"F64"}
    merged = world.merge({"merge_method": "passthrough", "models": [{"model": f"{world.x}+{folder}"}]}, "out")
    for name, tensor in folded(base, (made, 1.0)).items():
        np.testing.assert_allclose(merged[name], tensor, rtol=1e-14, atol=1e-15, err_msg=name)


def test_dora_and_rows_keep_their_whole_weights(world: World) -> None:
    magnitudes = {f"{Q.format(n)}.lora_magnitude_vector": np.full(HIDDEN, 3, np.float32) for n in range(2)}
    dora = adapter(1, use_dora=True)
    dora.more = magnitudes
    rows = np.ones((2, HIDDEN), np.float32)
    tokens = Handmade(
        {},
        {"trainable_token_indices": {"embed_tokens": [3, 1]}},
        {"model.embed_tokens.token_adapter.trainable_tokens_delta": rows},
    )
    folders = [dora.write(world.root / "dora"), tokens.write(world.root / "tokens")]
    plan = carrick.plan(ties_of(world, [f"{world.x}+{folder}" for folder in folders]))
    first, second = job_of(plan, ADAPTED).inputs[1:]
    assert (first.delta, second.delta) == (False, True)
    assert described(job_of(plan, ADAPTED), 1).magnitude is not None
    embedding = described(job_of(plan, "model.embed_tokens.weight"), 2)
    assert not job_of(plan, "model.embed_tokens.weight").inputs[2].delta
    assert embedding.replaced is not None
    assert embedding.replaced.rows == (3, 1)


def test_an_empty_tensor_beside_an_adapted_one_is_left_alone(world: World) -> None:
    """Both begin at the same byte of the file."""
    base = {**world.base, "empty": np.zeros((0, HIDDEN), np.float32)}
    write_base(world.x, base)
    for seed, path in enumerate((Q.format(0), DOWN.format(0), "lm_head")):
        made = adapter(seed, path)
        folder = made.write(world.root / f"one{seed}")
        model = [{"model": f"{world.x}+{folder}"}]
        merged = world.merge({"merge_method": "passthrough", "models": model}, f"out{seed}")
        assert merged["empty"].shape == (0, HIDDEN)
        np.testing.assert_array_equal(merged[f"{path}.weight"], folded(base, (made, 1.0))[f"{path}.weight"])


def test_tensors_that_an_adapter_adds_are_matched_like_all_others(world: World) -> None:
    head = {"score.weight": np.ones((3, HIDDEN), np.float32)}
    folders = []
    for seed in (1, 2):
        made = adapter(seed, modules_to_save=["score"])
        made.more = {name: seed * tensor for name, tensor in head.items()}
        folders.append(made.write(world.root / f"head{seed}"))
    both = [f"{world.x}+{folder}" for folder in folders]
    linear = {"merge_method": "linear", "models": [{"model": m, "parameters": {"weight": 1}} for m in both]}
    merged = world.merge(linear, "linear")
    np.testing.assert_array_equal(merged["score.weight"], 1.5 * head["score.weight"])
    with pytest.raises(PlanError, match=r"tensor 'score.weight' is in .*head1, .*head2 but not in .*X;"):
        carrick.plan(ties_of(world, both))
    kept = world.merge(ties_of(world, both, extra_tensors="first"), "first")
    np.testing.assert_array_equal(kept["score.weight"], head["score.weight"])


def plan_kept(config: Any) -> Plan:
    return carrick.plan(config, shard_size="keep")


def test_shards_are_kept(world: World) -> None:
    names = list(world.base)
    for number in (0, 1):
        part = {name: world.base[name] for name in names[number::2]}
        write_base(world.root / "parts", part)
        (world.root / "parts" / "model.safetensors").rename(
            world.root / "parts" / f"model-{number + 1:05d}-of-00002.safetensors"
        )
    weight_map = {name: f"model-{names.index(name) % 2 + 1:05d}-of-00002.safetensors" for name in names}
    (world.root / "parts" / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    # What an adapter saved whole stays where the base's was; what it adds goes to the end.
    made = adapter(1, modules_to_save=["norm", "score"])
    made.more = {
        "model.norm.weight": np.zeros(HIDDEN, np.float32),
        "score.weight": np.ones((3, HIDDEN), np.float32),
    }
    folder = made.write(world.root / "saving")
    config = {"merge_method": "passthrough", "models": [{"model": f"{world.root / 'parts'}+{folder}"}]}
    plan = plan_kept(config)
    found = {job.name: plan.shards[job.shard].name for job in plan.jobs}
    assert found == {**weight_map, "score.weight": "model-00002-of-00002.safetensors"}
    carrick.merge(config, world.root / "out", shard_size="keep")
    second = load_file(world.root / "out" / "model-00002-of-00002.safetensors")
    assert set(second) == {name for name, file in found.items() if file.startswith("model-00002")}
    assert plan_kept({**config, "dtype": "bfloat16"}).jobs[0].dtype == "BF16"
    sources = [{"model": str(world.root / "parts"), "layer_range": [0, 1]}]
    with pytest.raises(PlanError, match="no shards can be kept"):
        plan_kept({"merge_method": "passthrough", "slices": [{"sources": sources}]})
