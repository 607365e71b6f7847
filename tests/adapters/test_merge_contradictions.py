"""Requests whose parts do not go together are refused before anything is read: no option is dropped silently."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters.merging import FILE, PREFIX, Q, lora, merged, merged_by_document
from carrick.adapters import merge
from carrick.cli import main
from carrick.errors import ConfigError, PlanError
from carrick.merge import merge as merge_config
from oracles.files import read_file, write_model

HEAD = "lm_head"


@pytest.fixture
def pair():
    return [lora(seed) for seed in range(2)]


@pytest.fixture
def folders(pair, tmp_path):
    return [str(adapter.write(tmp_path / f"adapter-{i}")) for i, adapter in enumerate(pair)]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"space": "factors", "method": "linear", "device": "torch:cpu"}, "--device"),
        ({"space": "factors", "method": "linear", "energy": 0.5}, "`energy`"),
        ({"space": "factors", "method": "linear", "parameters": {"normalize": True}}, "`normalize`"),
        ({"method": "layer_swap", "rank": 2}, "`rank`"),
        ({"method": "layer_swap", "energy": 0.5}, "`energy`"),
        ({"method": "ties", "density": 0.5}, "--rank"),
        ({"method": "ties", "density": 0.5, "parameters": {"density": 0.4}, "rank": 2}, "twice"),
        ({"modules_to_save": "nobody"}, "nobody"),
        ({"threads": 0}, "at least 1"),
        ({"threads": -3}, "at least 1"),
    ],
)
def test_what_does_not_go_together(options, word, pair):
    with pytest.raises((ConfigError, PlanError)) as caught:
        merged(pair, **options)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    "extra",
    [
        ["--rank", "3"],
        ["--energy", "0.5"],
        ["--space", "factors"],
        ["--modules-to-save", "1"],
        ["--precision", "float64"],
        ["--device", "cuda"],
    ],
)
def test_options_of_an_adapter_beside_dense(extra, folders, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    command = [
        "adapters",
        "merge",
        *folders,
        "-o",
        str(tmp_path / "out"),
        "--base",
        "base",
        "--dense",
        *extra,
    ]
    assert main(command) == 2
    told = capsys.readouterr().err
    assert extra[0] in told
    assert "--dense" in told
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("policy", ["1", "merge"])
def test_a_module_saved_whole_and_with_factors(policy, tmp_path):
    """PEFT cannot load an adapter that has both for one module."""
    whole, factors = lora(0), lora(1, {Q.format(0): (21, 17), HEAD: (5, 17)})
    whole.settings["modules_to_save"] = [HEAD]
    whole.more[f"{HEAD}.weight"] = np.ones((5, 17), np.float32)
    base = write_model(tmp_path / "base", {f"{HEAD}.weight": np.zeros((5, 17), np.float32)})
    with pytest.raises(PlanError) as caught:
        merged([whole, factors], modules_to_save=policy, base=base if policy == "merge" else None)
    for word in (HEAD, "adapter 1", "adapter 2", "LoRA factors", "--dense"):
        assert word in str(caught.value)
    kept = merged([whole, factors], modules_to_save="2").state_dict
    assert f"{PREFIX}{HEAD}.weight" not in kept


def test_weights_of_what_is_saved_whole_are_those_of_its_name(tmp_path):
    """A filter on a module that comes first does not decide for the head."""
    rng = np.random.default_rng(0)
    heads = [rng.standard_normal((5, 17)).astype(np.float32) for _ in range(3)]
    adapters = [lora(seed) for seed in range(2)]
    for adapter, head in zip(adapters, heads, strict=False):
        adapter.settings["modules_to_save"] = [HEAD]
        adapter.more[f"{HEAD}.weight"] = head
    base = write_model(tmp_path / "base", {f"{HEAD}.weight": heads[2]})
    content = {"merge_method": "cat", "modules_to_save": "merge", "base_model": str(base)}
    weights = [
        [{"filter": HEAD, "value": 1.0}, {"value": 0.0}],
        [{"filter": HEAD, "value": -0.5}, {"value": 3}],
    ]
    report = merged_by_document(adapters, content, [{"weight": weight} for weight in weights])
    want = heads[2] + (heads[0] - heads[2]) - 0.5 * (heads[1] - heads[2])
    np.testing.assert_allclose(report.state_dict[f"{PREFIX}{HEAD}.weight"], want, rtol=1e-5, atol=1e-6)


def test_layer_swap_does_not_sum_what_is_saved_whole(tmp_path):
    adapters = [lora(seed, {Q.format(layer): (6, 17) for layer in range(4)}) for seed in range(2)]
    for adapter in adapters:
        adapter.settings["modules_to_save"] = [HEAD]
        adapter.more[f"{HEAD}.weight"] = np.ones((5, 17), np.float32)
    with pytest.raises(PlanError, match="`layer_swap` sums nothing"):
        merged(adapters, method="layer_swap", modules_to_save="merge", base=tmp_path)


def test_a_dry_run_refuses_what_the_run_would(folders, tmp_path):
    models = [{"model": folder} for folder in folders]
    ties = {"merge_method": "ties", "models": models, "parameters": {"density": 0.5}}
    with pytest.raises(PlanError, match="--rank"):
        merge_config(ties, tmp_path / "out", dry_run=True)
    assert merge_config({**ties, "rank": 2}, tmp_path / "out", dry_run=True).dry_run
    assert not (tmp_path / "out").exists()


def test_the_record_names_no_path_and_the_base(tmp_path):
    whole, other = lora(0), lora(1)
    whole.settings["modules_to_save"] = [HEAD]
    whole.more[f"{HEAD}.weight"] = np.ones((5, 17), np.float32)
    folders = [str(one.write(tmp_path / name)) for one, name in ((whole, "a"), (other, "b"))]
    merge(folders, tmp_path / "kept", modules_to_save=folders[0])
    record = (tmp_path / "kept" / "carrick.json").read_text()
    assert str(tmp_path) not in record
    assert json.loads(record)["modules_to_save"] == 1
    base = write_model(tmp_path / "base", {f"{HEAD}.weight": np.zeros((5, 17), np.float32)})
    merge(folders, tmp_path / "summed", modules_to_save="merge", base=base)
    record = (tmp_path / "summed" / "carrick.json").read_text()
    assert str(tmp_path) not in record
    named = json.loads(record)["base"]
    assert named["name"] == "base"
    assert [file["name"] for file in named["files"]] == ["model.safetensors"]
    assert read_file(tmp_path / "summed" / FILE)[f"{PREFIX}{HEAD}.weight"].shape == (5, 17)


def test_adapters_in_memory_that_are_none(tmp_path, pair):
    state, config = pair[0].state
    with pytest.raises(ConfigError, match="give a list"):
        merge(str(tmp_path))
    with pytest.raises(ConfigError, match="adapter 2 is not what JSON can hold"):
        merge([(state, config), (state, {**config, "extra": object()})])
