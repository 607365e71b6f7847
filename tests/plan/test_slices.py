"""Frankenmerges: names, configuration, what stands before and after the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from carrick.checkpoints import find
from carrick.errors import CarrickError, PlanError
from plan.tiny import BF16, Tensors, job_of, llama, llama_config, plan_of, trio, write

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.plan import Plan


def stack(*sources: tuple[Path, int, int], method: str = "passthrough", more: str = "") -> str:
    listed = "\n".join(f"- sources: [{{model: {m}, layer_range: [{a}, {b}]}}]" for m, a, b in sources)
    return f"merge_method: {method}\nslices:\n{listed}\n{more}"


def source_of(plan: Plan, name: str) -> tuple[str, str]:
    """Folder and tensor name that an output tensor is read from."""
    given = job_of(plan, name).inputs[0]
    folder = plan.files[given.source.file].path.rsplit("/", 1)[0]
    tensors = find(folder).tensors
    return folder, next(n for n, t in tensors.items() if t.begin == given.source.offset)


def test_repeated_and_overlapping_layers_are_renumbered(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    plan = plan_of(stack((a, 0, 3), (b, 1, 4), (a, 2, 3)))
    wanted = [(a, 0), (a, 1), (a, 2), (b, 1), (b, 2), (b, 3), (a, 2)]
    for number, (model, layer) in enumerate(wanted):
        found = source_of(plan, f"model.layers.{number}.mlp.up_proj.weight")
        assert found == (str(model), f"model.layers.{layer}.mlp.up_proj.weight")
    assert len(plan.jobs) == 7 * 5 + 3
    assert {j.method for j in plan.jobs} == {"copy"}
    assert plan.meta["config_json"]["num_hidden_layers"] == 7


def test_embeddings_of_the_first_and_head_of_the_last_slice(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    plan = plan_of(stack((a, 0, 2), (b, 2, 4)))
    assert source_of(plan, "model.embed_tokens.weight")[0] == str(a)
    assert source_of(plan, "model.norm.weight")[0] == str(b)
    assert source_of(plan, "lm_head.weight")[0] == str(b)


def test_per_layer_lists_follow_their_layers(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    write(
        a,
        llama(),
        llama_config(
            layer_types=["a0", "a1", "a2", "a3"],
            windows=[1, 2, 3, 4],
            eos_token_id=[1, 2, 3, 4],
            mlp_only_layers=[0, 3],
            rope=[1, 2],
            suppress_tokens=[5, 6, 7, 8],
            first_k_dense_replace=1,
        ),
    )
    write(b, llama(seed=1), llama_config(layer_types=["b0", "b1", "b2", "b3"], mlp_only_layers=[1]))
    plan = plan_of(stack((a, 0, 2), (b, 1, 4)))
    config = plan.meta["config_json"]
    assert config["layer_types"] == ["a0", "a1", "b1", "b2", "b3"]
    assert config["windows"] == [1, 2, 2, 3, 4]
    assert config["mlp_only_layers"] == [0, 2]
    assert config["eos_token_id"] == [1, 2, 3, 4]
    assert config["rope"] == [1, 2]
    assert config["suppress_tokens"] == [5, 6, 7, 8]
    assert plan.meta["config_edits"]["num_hidden_layers"] == [4, 5]
    assert any("first_k_dense_replace" in note for note in plan.notes)


@pytest.mark.parametrize("key", ["n_layer", "num_layers", "n_layers"])
def test_other_spellings_of_the_number_of_layers(key: str, tmp_path: Path) -> None:
    config = {"model_type": "x", key: 4, "vocab_size": 4}
    a = write(tmp_path / "A", llama(), config)
    assert plan_of(stack((a, 0, 4), (a, 2, 4))).meta["config_json"] == config | {key: 6}


def test_nested_configuration(tmp_path: Path) -> None:
    config = {"model_type": "vlm", "text_config": {"model_type": "llama", "num_hidden_layers": 4}}
    a = write(tmp_path / "A", llama(), config)
    plan = plan_of(stack((a, 0, 4), (a, 0, 4)))
    assert plan.meta["config_json"]["text_config"]["num_hidden_layers"] == 8


def test_configuration_that_counts_no_layers(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(), {"model_type": "x"})
    with pytest.raises(PlanError, match=r"config.json: no entry equals the 4 layers"):
        plan_of(stack((a, 0, 4), (a, 0, 4)))
    assert plan_of(stack((a, 0, 4))).meta["config_json"] == {"model_type": "x"}


def test_merged_slices_read_each_source_at_its_own_layers(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    text = (
        "merge_method: linear\nslices:\n- sources:\n"
        f"  - {{model: {a}, layer_range: [0, 2], parameters: {{weight: 1}}}}\n"
        f"  - {{model: {b}, layer_range: [2, 4], parameters: {{weight: 3}}}}\n"
    )
    plan = plan_of(text)
    job = job_of(plan, "model.layers.1.mlp.up_proj.weight")
    offsets = [
        find(str(m)).tensors[f"model.layers.{n}.mlp.up_proj.weight"].begin for m, n in ((a, 1), (b, 3))
    ]
    assert [i.source.offset for i in job.inputs] == offsets
    assert [(i.parameters or {})["weight"] for i in job.inputs] == [1, 3]
    assert len(job_of(plan, "lm_head.weight").inputs) == 2


def test_gradients_run_within_each_slice_and_end_at_the_head(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    sources = f"[{{model: {a}, layer_range: [0, 3]}}, {{model: {b}, layer_range: [0, 3]}}]"
    last = f"[{{model: {a}, layer_range: [1, 4]}}, {{model: {b}, layer_range: [1, 4]}}]"
    plan = plan_of(
        f"merge_method: slerp\nbase_model: {a}\nslices:\n- sources: {sources}\n- sources: {last}\n"
        "parameters: {t: [0.0, 0.5, 1.0]}"
    )
    got = [job_of(plan, f"model.layers.{n}.mlp.up_proj.weight").options["t"] for n in range(6)]
    assert got == [0.0, 0.5, 1.0, 0.0, 0.5, 1.0]
    assert job_of(plan, "model.embed_tokens.weight").options["t"] == 0.0
    assert job_of(plan, "lm_head.weight").options["t"] == 1.0
    assert job_of(plan, "model.norm.weight").options["t"] == 1.0


def test_range_beyond_the_layers(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    with pytest.raises(PlanError, match=rf"{b}: layer_range \[2, 5\] ends behind its 4 layers"):
        plan_of(stack((a, 0, 4), (b, 2, 5)))


def test_sources_of_unequal_length(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    sources = f"[{{model: {a}, layer_range: [0, 3]}}, {{model: {b}, layer_range: [0, 2]}}]"
    with pytest.raises(CarrickError, match="layers"):
        plan_of(f"merge_method: linear\nslices: [{{sources: {sources}}}]\nparameters: {{weight: 1}}")


def test_models_without_layers_or_with_several_stacks(tmp_path: Path) -> None:
    a = write(tmp_path / "A", {"w": np.ones(2, np.float32)})
    with pytest.raises(PlanError, match="no numbered layers"):
        plan_of(stack((a, 0, 1)))
    both: Tensors = {
        f"{side}.block.{n}.{p}.weight": np.ones(2, BF16)
        for side in ("encoder", "decoder")
        for n in range(3)
        for p in "abc"
    }
    b = write(tmp_path / "B", both)
    with pytest.raises(PlanError, match=r"decoder.block \(3 layers\), encoder.block \(3 layers\)"):
        plan_of(stack((b, 0, 1)))


def test_vision_tower_comes_with_the_first_slice(tmp_path: Path) -> None:
    vision: Tensors = {f"visual.blocks.{n}.{p}.weight": np.ones(1, BF16) for n in range(2) for p in "abc"}
    a = write(tmp_path / "A", llama() | vision, llama_config())
    b = write(tmp_path / "B", llama(seed=1) | vision, llama_config())
    plan = plan_of(stack((a, 0, 2), (b, 1, 4)))
    assert source_of(plan, "visual.blocks.1.c.weight")[0] == str(a)
    assert plan.meta["config_json"]["num_hidden_layers"] == 5


def vision() -> Tensors:
    return {f"visual.blocks.{n}.{p}.weight": np.ones(1, BF16) for n in range(2) for p in "abc"}


def left(plan: Plan, name: str) -> dict[str, object] | None:
    return next((one for one in plan.meta["unmatched"] if one["tensor"] == name), None)


def test_what_a_middle_slice_alone_holds_outside_its_layers_is_listed(tmp_path: Path) -> None:
    a, b, c = trio(tmp_path)
    write(b, llama(seed=1) | vision() | {"model.extra_norm.weight": np.ones(4, BF16)}, llama_config())
    plan = plan_of(stack((a, 0, 2), (b, 2, 3), (c, 3, 4)))
    assert not any("visual" in job.name or "extra" in job.name for job in plan.jobs)
    assert len(plan.meta["unmatched"]) == 7
    for name in ("visual.blocks.1.c.weight", "model.extra_norm.weight"):
        assert left(plan, name) == {"tensor": name, "held_by": [str(b)], "action": "left out"}


@pytest.mark.parametrize("first", ["A", "B"])
def test_what_the_donor_alone_holds_is_refused_or_copied(first: str, tmp_path: Path) -> None:
    """config.json describes it: of the first model listed, or of a `base_model` that gives no layers."""
    a, b, c = trio(tmp_path)
    extra: Tensors = {"model.extra_norm.weight": np.ones(4, BF16)}
    write(a, llama() | vision() | extra, llama_config(vision_config={"depth": 2}))
    # A is the first slice's model, which gives what stands before the layers, or none at all.
    text = stack((a if first == "A" else b, 0, 2), (c, 2, 4), more=f"base_model: {a}\n")
    lost = "model.extra_norm.weight"
    with pytest.raises(
        PlanError, match=rf"'{lost}' is in {a}, which gives config.json, .*extra_tensors: base"
    ):
        plan_of(text)
    for policy in ("base", "first"):
        plan = plan_of(f"{text}extra_tensors: {policy}\n")
        assert source_of(plan, lost) == (str(a), lost)
        assert left(plan, lost) == {"tensor": lost, "held_by": [str(a)], "action": f"copied from {a}"}
        assert source_of(plan, "visual.blocks.1.c.weight")[0] == str(a)
        assert (left(plan, "visual.blocks.1.c.weight") is None) == (first == "A")
        assert job_of(plan, lost).method == "copy"
        names = [job.name for job in plan.jobs]
        assert len(names) == len(set(names)) == 4 * 5 + 3 + 7


def test_prediction_layers_that_the_last_slice_lacks(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(5), llama_config(4, num_nextn_predict_layers=1))
    b = write(tmp_path / "B", llama(6, seed=1), llama_config(6))
    text = stack((a, 0, 4), (b, 2, 6))
    with pytest.raises(PlanError, match=rf"'model.layers.4.input_layernorm.weight' is in {a}"):
        plan_of(text)
    plan = plan_of(text + "extra_tensors: base")
    found = source_of(plan, "model.layers.8.mlp.up_proj.weight")
    assert found == (str(a), "model.layers.4.mlp.up_proj.weight")


@pytest.mark.parametrize("stored", ["donor", "last", "both", "none"])
def test_the_head_of_a_tied_model_is_not_missed(stored: str, tmp_path: Path) -> None:
    tied = llama_config(tie_word_embeddings=True)
    folders = []
    for seed, (name, who) in enumerate([("A", "donor"), ("B", "last")]):
        tensors = llama(seed=seed, head=False)
        if stored in {who, "both"}:
            tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        folders.append(write(tmp_path / name, tensors, tied))
    a, b = folders
    for text in (stack((a, 0, 2), (b, 2, 4)), stack((b, 0, 2), (b, 2, 4), more=f"base_model: {a}")):
        plan = plan_of(text)
        assert "lm_head.weight" not in {job.name for job in plan.jobs}
        assert plan.meta["unmatched"] == []
        assert plan.meta["config_json"]["tie_word_embeddings"] is True


def test_the_head_of_an_untied_donor_is_missed(tmp_path: Path) -> None:
    """Sources without a head that are not tied: what config.json describes is not there."""
    a = write(tmp_path / "A", llama(), llama_config())
    b = write(tmp_path / "B", llama(seed=1, head=False), llama_config())
    with pytest.raises(PlanError, match=r"'lm_head.weight' is in .*A, which gives config.json"):
        plan_of(stack((b, 0, 2), (b, 2, 4), more=f"base_model: {a}"))
    with pytest.raises(PlanError, match=r"'lm_head.weight' is in .*A"):
        plan_of(stack((a, 0, 2), (b, 2, 4)))


def test_an_empty_list_of_layer_numbers_is_one(tmp_path: Path) -> None:
    a, b, _ = trio(tmp_path)
    write(a, llama(), llama_config(mlp_only_layers=[0, 3]))
    write(b, llama(seed=1), llama_config(mlp_only_layers=[]))
    assert plan_of(stack((a, 0, 2), (b, 0, 4))).meta["config_json"]["mlp_only_layers"] == [0]


def test_prediction_layers_move_behind_the_stack(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(5), llama_config(4, num_nextn_predict_layers=1))
    plan = plan_of(stack((a, 0, 4), (a, 2, 4)))
    assert plan.meta["config_json"]["num_hidden_layers"] == 6
    assert source_of(plan, "model.layers.6.mlp.up_proj.weight")[1] == "model.layers.4.mlp.up_proj.weight"
    assert len(plan.jobs) == 7 * 5 + 3


def test_layers_of_models_of_other_sizes(tmp_path: Path) -> None:
    a = write(tmp_path / "A", llama(), llama_config())
    b = write(tmp_path / "B", llama(hidden=6), llama_config())
    with pytest.raises(PlanError, match="only layers of models of one size can be stacked"):
        plan_of(stack((a, 0, 2), (b, 2, 4)))
