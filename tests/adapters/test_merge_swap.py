"""Layer swapping of adapters: each module is one expert's, byte for byte, with the scale that it had."""

from __future__ import annotations

import numpy as np
import pytest

from adapters.loading import loaded, logits, model_of, onto, updates_of
from adapters.merging import (
    DOWN,
    FILE,
    PREFIX,
    UP,
    Q,
    V,
    distance,
    lora,
    merged,
    merged_by_document,
    result,
    scale_of,
)
from adapters.zoo import case, llama, make, torch
from carrick.adapters import merge
from carrick.errors import ConfigError, PlanError
from oracles.files import read_file

PARTS = (Q, V, UP, DOWN)
ATTENTION = (Q, V)


def expert(seed, layers, parts=PARTS, **options):
    shapes = {part.format(layer): (6, 5) for layer in range(layers) for part in parts}
    return lora(seed, shapes, **{"rank": 2 + seed, "alpha": 3 + seed, **options})


def origin(state, task, language):
    """Who gave each module: both factors are one expert's bytes."""
    found = {}
    for key in state:
        if "lora_A" not in key:
            continue
        path = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
        pair = [state[key.replace("lora_A", f"lora_{x}")].tobytes() for x in "AB"]
        for name, one in (("task", task), ("language", language)):
            if path in one.factors and pair == [factor.tobytes() for factor in one.factors[path]]:
                found[path] = name
        assert path in found, path
    return found


def scaled(count, layers):
    return count if 28 <= layers <= 48 else max(1, int(np.floor(count * layers / 32 + 0.5)))


def from_language(path, partition, layers):
    layer = int(path.split(".")[2])
    first, last = (scaled(c, layers) for c in ((8, 4) if partition in "BZ" else (6, 2)))
    outer = layer < first or layer >= layers - last
    if partition == "A":
        return outer or "self_attn" in path
    return outer if partition in "BC" else not outer


@pytest.mark.parametrize("layers", [4, 12, 32])
@pytest.mark.parametrize("partition", ["A", "B", "C", "Z"])
def test_partitions(partition, layers):
    task, language = expert(0, layers), expert(1, layers)
    report = merged([task, language], method="layer_swap", parameters={"partition": partition})
    want = {p: "language" if from_language(p, partition, layers) else "task" for p in task.factors}
    assert set(want.values()) == {"task", "language"}
    assert origin(report.state_dict, task, language) == want
    experts = {"task": task.updates(), "language": language.updates()}
    assert distance(result(report), {path: experts[who][path] for path, who in want.items()}) <= 1e-14


@pytest.mark.parametrize("parts", [(Q,), (Q, V), (UP,)])
def test_experts_that_change_one_or_two_modules_of_a_layer(parts):
    """What LoRA does by default: `q_proj` and `v_proj`."""
    task, language = expert(0, 8, parts), expert(1, 8, parts)
    got = origin(merged([task, language], method="layer_swap").state_dict, task, language)
    assert got == {p: "language" if from_language(p, "B", 8) else "task" for p in task.factors}


@pytest.mark.parametrize(
    ("layers", "counts"), [({"first": 2, "last": 1}, (2, 1)), ({"first": 0.5, "last": 0.0}, (4, 0))]
)
def test_counts_and_fractions(layers, counts):
    task, language = expert(0, 8), expert(1, 8)
    report = merged_by_document([task, language], {"merge_method": "layer_swap", "layers": layers})
    got = origin(report.state_dict, task, language)
    assert got == {
        path: "task" if counts[0] <= int(path.split(".")[2]) < 8 - counts[1] else "language"
        for path in task.factors
    }


def test_a_pattern():
    task, language = expert(0, 6), expert(1, 6)
    content = {"merge_method": "layer_swap", "layers": {"match": r"layers\.[24]\..*mlp"}}
    got = origin(merged_by_document([task, language], content).state_dict, task, language)
    chosen = {path for path in task.factors if "mlp" in path and path.split(".")[2] in ("2", "4")}
    assert {path for path, who in got.items() if who == "language"} == chosen


def test_the_language_expert_may_be_listed_first():
    task, language = expert(0, 4), expert(1, 4)
    roles = [{"role": "language"}, {"role": "task"}]
    report = merged_by_document([language, task], {"merge_method": "layer_swap"}, roles)
    got = origin(report.state_dict, task, language)
    assert got == {p: "language" if from_language(p, "B", 4) else "task" for p in task.factors}


@pytest.mark.parametrize("rslora", [False, True])
def test_scales_stay(rslora):
    """rsLoRA's α/√r beside a plain α/r, ranks that differ: α by pattern gives each module its own scale back."""
    task, language = (
        expert(0, 4, rank=3, alpha=7, rslora=rslora),
        expert(1, 4, rank=5, alpha=2, rslora=not rslora),
    )
    report = merged([task, language], method="layer_swap")
    assert report.config["use_rslora"] is False
    for path, who in origin(report.state_dict, task, language).items():
        one = task if who == "task" else language
        assert scale_of(report.config, path, one.rank(path)) == pytest.approx(one.scale(path), rel=1e-15)


def test_equal_experts_are_the_identity():
    one = expert(0, 4)
    report = merged([one, one], method="layer_swap")
    assert {key: t.tobytes() for key, t in report.state_dict.items()} == {
        k: t.tobytes() for k, t in one.tensors.items()
    }


def test_swapped_experts_are_complements():
    task, language = expert(0, 12), expert(1, 12)
    one = origin(
        merged([task, language], method="layer_swap", parameters={"partition": "B"}).state_dict,
        task,
        language,
    )
    other = origin(
        merged([language, task], method="layer_swap", parameters={"partition": "Z"}).state_dict,
        task,
        language,
    )
    assert one == other


def test_a_module_that_its_giver_lacks():
    """It is left out: that expert changes nothing there."""
    task, language = expert(0, 4), expert(1, 4, ATTENTION)
    got = origin(merged([task, language], method="layer_swap").state_dict, task, language)
    assert got == {
        path: "language" if from_language(path, "B", 4) else "task"
        for path in task.factors
        if not from_language(path, "B", 4) or "self_attn" in path
    }


@pytest.mark.parametrize("place", ["task", "language", "average"])
def test_the_head(place):
    shapes = {"lm_head": (9, 6), **{Q.format(layer): (6, 5) for layer in range(4)}}
    task, language = lora(0, shapes, rank=2, alpha=3), lora(1, shapes, rank=4, alpha=3, rslora=True)
    report = merged([task, language], method="layer_swap", parameters={"head": place})
    one, other = (expert.updates()["lm_head"] for expert in (task, language))
    want = {"task": one, "language": other, "average": (one + other) / 2}[place]
    np.testing.assert_allclose(result(report)["lm_head"], want, rtol=1e-6, atol=1e-7)
    if place == "average":
        assert report.state_dict[f"{PREFIX}lm_head.lora_A.weight"].shape[0] == 6


@pytest.mark.parametrize("base", [None, "no-such-folder"])
def test_the_head_of_the_base_is_no_update(base):
    """It is left out, whether the base is named or not; what is in the layers is as without it."""
    layers = {Q.format(layer): (6, 5) for layer in range(4)}
    experts = [lora(seed, {**layers, "lm_head": (9, 6)}) for seed in range(2)]
    options = {} if base is None else {"base": base}
    report = merged(experts, method="layer_swap", parameters={"head": "base"}, **options)
    with_head = merged(experts, method="layer_swap")
    assert not [key for key in report.state_dict if "lm_head" in key]
    assert report.config["target_modules"] == sorted(layers)
    assert all(t.tobytes() == with_head.state_dict[key].tobytes() for key, t in report.state_dict.items())
    assert len(report.state_dict) == 8


@pytest.mark.parametrize("where", ["model", "document"])
def test_a_weight_that_would_change_nothing(where):
    experts = [expert(0, 4), expert(1, 4)]
    content = {"merge_method": "layer_swap"}
    for weight in (0.5, [0, 1], 0):
        own = [{"weight": weight}, {}] if where == "model" else None
        more = {"parameters": {"weight": weight}} if where == "document" else {}
        with pytest.raises(ConfigError, match=r"the weight is .*`layer_swap` copies each module as it is"):
            merged_by_document(experts, {**content, **more}, own)
    plain = merged_by_document(experts, content).state_dict
    got = merged_by_document(experts, content, [{"weight": 1}, {"weight": 1.0}]).state_dict
    assert {key: t.tobytes() for key, t in got.items()} == {key: t.tobytes() for key, t in plain.items()}


def test_files_on_disk_and_their_meaning_to_peft(tmp_path):
    """Four layers: the first and the last are the language expert's."""
    chosen = case(lambda: llama(num_hidden_layers=4), "q_proj", "down_proj", lora_alpha=2)
    task = make(chosen, tmp_path / "task", 0).folder
    language = make(chosen, tmp_path / "language", 1, use_rslora=True, rank_pattern={"down_proj": 2}).folder
    merge([task, language], tmp_path / "out", method="layer_swap")
    tensors = [read_file(folder / FILE) for folder in (task, language, tmp_path / "out")]
    updates = [updates_of(folder) for folder in (task, language)]
    want = {}
    for key, tensor in tensors[2].items():
        path = key.removeprefix(PREFIX).split(".lora_")[0]
        giver = int(path.split(".")[2]) in (0, 3)
        assert tensor.tobytes() == tensors[giver][key].tobytes()
        want[path] = updates[giver][path]
    dense = model_of(chosen)
    on_base = onto({k: t.numpy() for k, t in dense.state_dict().items()}, want, [task])
    dense.load_state_dict({key: torch.from_numpy(tensor) for key, tensor in on_base.items()})
    np.testing.assert_allclose(logits(loaded(chosen, tmp_path / "out")), logits(dense), rtol=1e-9, atol=1e-9)


def some_layers(seed, numbers, **settings):
    one = lora(seed, {part.format(n): (6, 5) for n in numbers for part in ATTENTION}, rank=2 + seed)
    one.settings |= settings
    return one


LISTED = {"layers_to_transform": [0, 1, 2, 3]}


@pytest.mark.parametrize(("one", "other"), [(LISTED, {}), ({}, LISTED), (LISTED, LISTED)])
def test_layers_that_the_adapters_may_not_show_are_told_of(one, other, tmp_path):
    """Four layers are seen; a base of 32 would be divided elsewhere."""
    task, language = some_layers(0, range(4), **one), some_layers(1, range(4), **other)
    folders = [expert.write(tmp_path / name) for name, expert in (("task", task), ("language", language))]
    report = merge(folders, tmp_path / "out", method="layer_swap")
    notes = [note for note in report.notes if "`layers_to_transform`" in note]
    assert len(notes) == 1
    assert notes[0].startswith(str(folders[0] if one else folders[1]))
    assert r"`layers: {match: 'layers\.(0|1|7)\.'}`" in notes[0]
    assert any("layers are counted by the adapters' modules: 4 in model.layers" in n for n in report.notes)
    plain = merged([some_layers(0, range(4)), some_layers(1, range(4))], method="layer_swap")
    assert not [note for note in plain.notes if "`layers_to_transform`" in note]


@pytest.mark.parametrize(
    ("numbers", "shown"), [(range(4, 8), "4 to 7"), ([0, 1, 5], "0, 1, 5"), ([6], "6"), ([1, 2], "1, 2")]
)
def test_layers_that_cannot_be_counted(numbers, shown):
    """Refused with the way to name them, and that way works."""
    task, language = some_layers(0, numbers), some_layers(1, numbers)
    message = f"in the layers {shown} of model.layers, .* by a regular expression, such as `layers: {{match: "
    refused(PlanError, message, [task, language])
    content = {"merge_method": "layer_swap", "layers": {"match": rf"layers\.({max(numbers)}|99)\."}}
    report = merged_by_document([task, language], content)
    want = {p: "language" if int(p.split(".")[2]) == max(numbers) else "task" for p in task.factors}
    assert origin(report.state_dict, task, language) == want


def refused(error, message, adapters, **options):
    with pytest.raises(error, match=message):
        merged(adapters, method="layer_swap", **options)


def test_what_is_refused():
    task, language = expert(0, 4), expert(1, 4)
    refused(PlanError, r"of the 2 layers of model\.layers takes the first 1 and the last 1: nothing is left",
            [expert(0, 2), expert(1, 2)])  # fmt: skip
    refused(PlanError, "has no numbered layers", [lora(0, {"lm_head": (4, 3)}), lora(1, {"lm_head": (4, 3)})])
    refused(ConfigError, "partition", [task, language], parameters={"partition": "D"})
    refused(ConfigError, "layer_swap", [task, language, expert(2, 4)])
    refused(ConfigError, "layer_swap", [task])
