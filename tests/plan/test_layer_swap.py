"""Layer swapping against a small independent oracle of the paper's partitions."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from carrick.errors import CarrickError, PlanError
from carrick.plan.partitions import Share, counted_share, partition_share, scaled
from plan.tiny import BF16, Tensors, job_of, llama, llama_config, plan_of, trio, write

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.plan import Plan

DEPTHS = [2, 12, 24, 28, 32, 36, 48, 80]


def oracle_count(count: int, depth: int) -> int:
    if 28 <= depth <= 48:
        return count
    exact = Fraction(count * depth, 32)
    lower = int(exact)
    rounded = lower + 1 if exact - lower >= Fraction(1, 2) else lower
    return rounded if rounded > 1 else 1


def oracle(partition: str, depth: int) -> dict[str, set[int]]:
    """Layers whose attention and whose MLP come from the language expert, by the paper's words."""
    every = set(range(depth))

    def outer(first: int, last: int) -> set[int]:
        low, high = oracle_count(first, depth), oracle_count(last, depth)
        return {n for n in every if n < low or n >= depth - high}

    if partition == "A":
        return {"attention": every, "mlp": outer(6, 2)}
    chosen = {"B": outer(8, 4), "C": outer(6, 2), "Z": every - outer(8, 4)}[partition]
    return {"attention": chosen, "mlp": chosen}


def given(share: Share, depth: int, *, attention: bool) -> set[int]:
    return {n for n in range(depth) if share.gives(n, depth, attention=attention)}


@pytest.mark.parametrize("depth", DEPTHS)
@pytest.mark.parametrize("partition", "ABCZ")
def test_partitions(partition: str, depth: int) -> None:
    wanted = oracle(partition, depth)
    empty = not wanted["mlp"] if partition == "Z" else len(wanted["mlp"]) == depth
    if empty:
        with pytest.raises(PlanError, match="nothing is left"):
            partition_share(partition, depth, "layers")
        return
    share = partition_share(partition, depth, "layers")
    assert given(share, depth, attention=True) == wanted["attention"]
    assert given(share, depth, attention=False) == wanted["mlp"]


@pytest.mark.parametrize("depth", [n for n in DEPTHS if n > 2])
def test_z_is_the_complement_of_b(depth: int) -> None:
    b, z = (given(partition_share(p, depth, "x"), depth, attention=False) for p in "BZ")
    assert b | z == set(range(depth))
    assert not b & z


def test_published_counts() -> None:
    assert [partition_share(p, 32, "x") for p in "BC"] == [Share(8, 4), Share(6, 2)]
    assert (scaled(8, 24), scaled(6, 24), scaled(2, 24), scaled(8, 80), scaled(2, 2)) == (6, 5, 2, 20, 1)


@pytest.mark.parametrize(
    ("first", "last", "depth", "wanted"),
    [
        (3, 2, 12, (3, 2)),
        (0.25, 0.125, 32, (8, 4)),
        (0.25, 0.0, 10, (3, 0)),
        (0, 1, 2, (0, 1)),
        (1, 0, 28, (1, 0)),
    ],
)
def test_counts_and_fractions(first: float, last: float, depth: int, wanted: tuple[int, int]) -> None:
    share = counted_share(first, last, depth, "x")
    assert (share.first, share.last) == wanted


@pytest.mark.parametrize(("first", "last"), [(7, 5), (12, 0), (0.5, 0.5), (1.0, 0)])
def test_nothing_left_for_the_task(first: float, last: float) -> None:
    with pytest.raises(PlanError, match="nothing is left for the task expert"):
        counted_share(first, last, 12, "x")


def swap(root: Path, more: str = "", layers: int = 12) -> tuple[str, Path, Path, Path]:
    base, task, language = trio(root, layers=layers)
    text = (
        f"merge_method: layer_swap\nbase_model: {base}\nmodels:\n"
        f"- {{model: {task}, parameters: {{role: task}}}}\n"
        f"- {{model: {language}, parameters: {{role: language}}}}\n{more}"
    )
    return text, base, task, language


def givers(plan: Plan) -> dict[str, str]:
    """Tensor to the name of the folder that gives it, `+` where several do."""
    return {
        j.name: "+".join(plan.files[i.source.file].path.split("/")[-2] for i in j.inputs) for j in plan.jobs
    }


def by_pattern(plan: Plan, *patterns: str) -> list[set[int]]:
    found = []
    for pattern in patterns:
        names = [n for n, giver in givers(plan).items() if giver == "C" and re.search(pattern, n)]
        found.append({int(n.split(".")[2]) for n in names})
    return found


@pytest.mark.parametrize("partition", "ABCZ")
def test_tensors_of_a_plan(partition: str, tmp_path: Path) -> None:
    text, *_ = swap(tmp_path, f"parameters: {{partition: {partition}}}")
    plan = plan_of(text)
    wanted = oracle(partition, 12)
    assert {j.method for j in plan.jobs} == {"copy"}
    q, norm, up, post = by_pattern(plan, "q_proj", "input_layernorm", "up_proj", "post_attention")
    assert q == norm == wanted["attention"]
    assert up == post == wanted["mlp"]
    assert {
        givers(plan)[n] for n in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    } == {"B"}


def test_layers_by_count_and_pattern(tmp_path: Path) -> None:
    text, *_ = swap(tmp_path, "layers: {first: 2, last: 1}")
    assert by_pattern(plan_of(text), "q_proj", "up_proj") == [{0, 1, 11}, {0, 1, 11}]
    text, *_ = swap(tmp_path, "layers: {match: 'mlp|embed_tokens'}")
    plan = plan_of(text)
    assert by_pattern(plan, "up_proj", "q_proj") == [set(range(12)), set()]
    assert givers(plan)["model.embed_tokens.weight"] == "C"


def test_outside_the_layers(tmp_path: Path) -> None:
    text, *_ = swap(tmp_path, "parameters: {embeddings: language, head: average, final_norm: base}")
    plan = plan_of(text)
    found = givers(plan)
    assert found["model.embed_tokens.weight"] == "C"
    assert found["model.norm.weight"] == "A"
    assert found["lm_head.weight"] == "B+C"
    head = job_of(plan, "lm_head.weight")
    assert (head.method, head.options) == ("linear", {"normalize": True})
    assert [i.parameters for i in head.inputs] == [{"weight": 0.5}, {"weight": 0.5}]


def test_other_dtype_is_a_cast_and_nothing_more(tmp_path: Path) -> None:
    text, *_ = swap(tmp_path, "dtype: float32")
    assert {j.method for j in plan_of(text).jobs} == {"cast"}


def test_roles_can_be_swapped_and_default_to_the_order(tmp_path: Path) -> None:
    text, *_ = swap(tmp_path)
    other = (
        text.replace("role: task", "role: x")
        .replace("role: language", "role: task")
        .replace("role: x", "role: language")
    )
    one, two = givers(plan_of(text)), givers(plan_of(other))
    assert all({one[n], two[n]} == {"B", "C"} for n in one)
    plain = re.sub(r", parameters: \{role: \w+\}", "", text)
    assert givers(plan_of(plain)) == one


def test_two_layers_are_too_few(tmp_path: Path) -> None:
    text, *_ = swap(tmp_path, layers=2)
    with pytest.raises(PlanError, match=r"partition B of the 2 layers.*nothing is left for the task expert"):
        plan_of(text)


def test_each_stack_counts_its_own_layers(tmp_path: Path) -> None:
    def encoder_decoder(seed: int) -> Tensors:
        rng = np.random.default_rng(seed)
        parts = ("0.SelfAttention.q", "0.layer_norm", "1.DenseReluDense.wi", "1.layer_norm")
        names = [
            f"{side}.block.{n}.layer.{part}.weight"
            for side, count in (("encoder", 4), ("decoder", 12))
            for n in range(count)
            for part in parts
        ]
        return {
            n: rng.normal(size=2).astype(BF16)
            for n in [*names, "shared.weight", "decoder.final_layer_norm.weight"]
        }

    for seed, name in enumerate("BC"):
        write(tmp_path / name, encoder_decoder(seed), {"model_type": "t5"})
    text = (
        f"merge_method: layer_swap\nmodels: [{{model: {tmp_path}/B}}, {{model: {tmp_path}/C}}]\n"
        "layers: {first: 0.25}"
    )
    assert by_pattern(plan_of(text), "encoder.*wi", "decoder.*wi") == [{0}, {0, 1, 2}]
    plan = plan_of(text.replace("layers: {first: 0.25}", "parameters: {partition: A}"))
    first, last = oracle_count(6, 4), oracle_count(2, 4)
    assert by_pattern(plan, r"encoder.*1\.layer_norm") == [
        {n for n in range(4) if n < first or n >= 4 - last}
    ]
    assert by_pattern(plan, r"encoder.*0\.layer_norm") == [set(range(4))]


def test_a_tensor_that_fits_no_role_is_named_and_can_be_told(tmp_path: Path) -> None:
    odd = {f"model.layers.{n}.mystery.weight": np.ones(2, BF16) for n in range(12)}
    for seed, name in enumerate("BC"):
        write(tmp_path / name, llama(12, seed=seed) | odd, llama_config(12))
    text = f"merge_method: layer_swap\nmodels: [{{model: {tmp_path}/B}}, {{model: {tmp_path}/C}}]\n"
    whole_layers = plan_of(text)  # partition B asks for no role
    assert by_pattern(whole_layers, "mystery") == [oracle("B", 12)["mlp"]]
    with pytest.raises(PlanError, match=r"'model.layers.0.mystery.weight' is neither attention.*roles:"):
        plan_of(text + "parameters: {partition: A}")
    told = plan_of(text + "parameters: {partition: A}\nroles: {attention: mystery}")
    assert by_pattern(told, "mystery") == [set(range(12))]


def test_an_unknown_tensor_outside_the_layers_is_named(tmp_path: Path) -> None:
    for seed, name in enumerate("BC"):
        write(tmp_path / name, llama(12, seed=seed) | {"mystery": np.ones(2, BF16)}, llama_config(12))
    text = f"merge_method: layer_swap\nmodels: [{{model: {tmp_path}/B}}, {{model: {tmp_path}/C}}]\n"
    with pytest.raises(PlanError, match="'mystery' is in no layer"):
        plan_of(text)
    assert givers(plan_of(text + "roles: {head: mystery}\nparameters: {head: language}"))["mystery"] == "C"


def test_tied_head_follows_the_embeddings(tmp_path: Path) -> None:
    tied = llama_config(12, tie_word_embeddings=True)
    for seed, name in enumerate("BC"):
        write(tmp_path / name, llama(12, head=False, seed=seed), tied)
    text = (
        f"merge_method: layer_swap\nmodels: [{{model: {tmp_path}/B}}, {{model: {tmp_path}/C}}]\n"
        "parameters: {embeddings: language}"
    )
    plan = plan_of(text)
    assert givers(plan)["model.embed_tokens.weight"] == "C"
    assert "lm_head.weight" not in givers(plan)
    assert any("tied to the embeddings" in note for note in plan.notes)


def test_integers_must_agree(tmp_path: Path) -> None:
    for seed, name in enumerate("BC"):
        write(
            tmp_path / name,
            llama(12, seed=seed) | {"embeddings.position_ids": np.arange(3)},
            llama_config(12),
        )
    text = f"merge_method: layer_swap\nmodels: [{{model: {tmp_path}/B}}, {{model: {tmp_path}/C}}]\n"
    assert job_of(plan_of(text), "embeddings.position_ids").method == "copy_equal"


def test_base_without_a_base_model(tmp_path: Path) -> None:
    text, *_ = swap(tmp_path, "parameters: {head: base}")
    with pytest.raises(CarrickError, match="base"):
        plan_of("\n".join(line for line in text.splitlines() if not line.startswith("base_model")))


def test_prediction_layers_behind_the_stack_go_with_the_head(tmp_path: Path) -> None:
    for seed, name in enumerate("BC"):
        config = llama_config(12, num_nextn_predict_layers=1)
        write(tmp_path / name, llama(13, seed=seed), config)
    text = (
        f"merge_method: layer_swap\nmodels: [{{model: {tmp_path}/B}}, {{model: {tmp_path}/C}}]\n"
        "parameters: {head: language}\nlayers: {last: 1}"
    )
    plan = plan_of(text)
    assert by_pattern(plan, "up_proj") == [{11, 12}]
    assert by_pattern(plan_of(text.replace("head: language", "head: task")), "up_proj") == [{11}]
