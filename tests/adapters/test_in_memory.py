"""Adapters in memory: state dicts and configurations in, live ones too, and results that no folder holds."""

from __future__ import annotations

import numpy as np
import pytest

import carrick
from adapters.handmade import Handmade, adapter, base_tensors, folded, write_base
from adapters.merging import FILE, distance, lora, meaning, result
from carrick.adapters import apply, extract, merge
from carrick.errors import ConfigError
from oracles.files import read_file, read_model, write_model


def in_memory(made: Handmade, folder):
    made.write(folder)
    return read_file(folder / FILE), {"peft_type": "LORA", **made.config}


def live_config(**options):
    peft = pytest.importorskip("peft")
    return peft.LoraConfig(
        r=2, lora_alpha=6, target_modules={"v_proj", "q_proj"}, task_type="CAUSAL_LM", **options
    )


@pytest.fixture
def base(tmp_path):
    return write_base(tmp_path / "base", base_tensors())


@pytest.fixture
def no_scratch(tmp_path, monkeypatch):
    """The folder for temporary files, which has to be empty when all is done."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert not list(folder.iterdir())


def same(folder, want):
    got = read_model(folder)
    assert got.keys() == want.keys()
    for name, tensor in want.items():
        np.testing.assert_array_equal(got[name], tensor, err_msg=name)


def test_apply_takes_what_merge_takes(base, tmp_path, no_scratch):
    first, second = adapter(1), adapter(2)
    pair = in_memory(second, tmp_path / "second")
    apply(base, [first.write(tmp_path / "first"), pair], tmp_path / "both")
    same(tmp_path / "both", folded(base_tensors(), (first, 1), (second, 1)))
    apply(base, pair, tmp_path / "one")
    same(tmp_path / "one", folded(base_tensors(), (second, 1)))
    apply(base, ({"path": pair, "weight": -0.5}, {"path": str(tmp_path / "first")}), tmp_path / "weighted")
    same(tmp_path / "weighted", folded(base_tensors(), (second, -0.5), (first, 1)))
    record = (tmp_path / "both" / "carrick.json").read_text()
    assert "adapter-2" in record
    assert str(no_scratch) not in record


@pytest.mark.parametrize(
    ("adapters", "what"),
    [
        (3, "the adapters are int; give a list"),
        ([3], "adapter 1 is int; give a path, a Hub id, or a pair of a state dict and its configuration"),
        ([({"lora_A": np.zeros(999)}, 3)], r"adapter 1 is a tuple \(dict, int\); give a path"),
        (
            [{"path": ({"lora_A": np.zeros(999)}, None)}],
            r"adapter 1 is a tuple \(dict, NoneType\); give a path",
        ),
    ],
)
def test_what_is_no_adapter(adapters, what, base, tmp_path):
    with pytest.raises(ConfigError, match=what) as told:
        apply(base, adapters, tmp_path / "out")
    assert len(str(told.value)) < 200
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("no_scratch")
def test_a_live_configuration_is_that_of_the_folder(tmp_path):
    """Sets and enumerations, which JSON does not have, are what PEFT writes for them."""
    config = live_config(use_rslora=True, rank_pattern={"v_proj": 2})
    config.save_pretrained(tmp_path / "saved")
    one = lora(1, rank=2)
    one.write(tmp_path / "plain")
    state = read_file(tmp_path / "plain" / FILE)
    (tmp_path / "saved" / FILE).write_bytes((tmp_path / "plain" / FILE).read_bytes())
    live, saved = merge([(state, config)]), merge([tmp_path / "saved"])
    want = {path: 6 / np.sqrt(2) * update for path, update in one.updates().items()}
    assert distance(result(live), want) <= 1e-6
    assert live.config == saved.config
    assert live.config["task_type"] == "CAUSAL_LM"


@pytest.mark.usefixtures("no_scratch")
def test_a_live_model_without_a_folder():
    """The pair that PEFT's own function gives: tensors that are parameters, and the model's own configuration."""
    peft = pytest.importorskip("peft")
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(5, 7))
    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=2, lora_alpha=3, target_modules=["0"]))
    with torch.no_grad():
        wrapped.base_model.model[0].lora_B["default"].weight.normal_()
    pair = (peft.get_peft_model_state_dict(wrapped), wrapped.peft_config["default"])
    want = wrapped.base_model.model[0].get_delta_weight("default").detach().numpy()
    np.testing.assert_allclose(result(merge([pair]))["0"], want, rtol=1e-5, atol=1e-6)


def test_extract_without_a_folder(base, tmp_path, no_scratch):
    made = adapter(3)
    write_model(
        tmp_path / "tuned", {n: t.astype(np.float32) for n, t in folded(base_tensors(), (made, 1)).items()}
    )
    report = extract(base, tmp_path / "tuned", rank=2)
    assert report.out.parts == ()
    wanted = {name.removesuffix(".weight"): update for name, update in made.updates().items()}
    assert distance(meaning(report.state_dict, report.config), wanted) <= 1e-5
    written = extract(base, tmp_path / "tuned", tmp_path / "out", rank=2)
    assert written.state_dict is None
    assert written.config == report.config
    held = read_file(tmp_path / "out" / FILE)
    assert {n: t.tobytes() for n, t in held.items()} == {n: t.tobytes() for n, t in report.state_dict.items()}
    # What comes out is what goes in.
    apply(base, (report.state_dict, report.config), tmp_path / "again")
    assert carrick.adapters.read(tmp_path / "out").modules.keys() == made.factors.keys()
    assert no_scratch.is_dir()
