"""Train everything, then take one side back: the base's bytes there, the tuned model's elsewhere."""

from __future__ import annotations

import json

import pytest

from carrick.adapters import merge
from carrick.errors import CarrickError, ConfigError, PlanError
from train.llama_adapters import (
    factors,
    llama,
    load_file,
    logits,
    peft,
    quiet,
    save_adapter,
    torch,
    updates,
    with_adapter,
)

recipes = pytest.importorskip("carrick.train.recipe")
resets = pytest.importorskip("carrick.train.reset")
pytestmark = quiet

LAYERS = 4
# Of four layers, partition B gives the language the first and the last, C the same, Z those between.
OF_LANGUAGE = {"B": {0, 3}, "C": {0, 3}, "Z": {1, 2}}


def tensors(folder):
    return load_file(folder / "model.safetensors")


def is_of_language(name, key):
    """Whose a tensor is, by the names of this model alone."""
    if ".layers." not in key:
        return False
    layer = int(key.split(".layers.")[1].split(".")[0])
    if name == "A":
        return layer in {0, 3} or "self_attn" in key or "input_layernorm" in key
    return layer in OF_LANGUAGE[name]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reset")
    llama(LAYERS).save_pretrained(folder / "base")
    tuned = llama(LAYERS)
    for parameter in tuned.parameters():
        parameter.data += 0.01
    tuned.save_pretrained(folder / "tuned")
    save_adapter(folder / "adapter", 0, layers=LAYERS, use_rslora=True)
    return folder


@pytest.mark.parametrize("side", ["task", "language"])
@pytest.mark.parametrize("name", ["A", "B", "C", "Z"])
def test_the_other_sides_tensors_are_the_bases(place, tmp_path, name, side):
    chosen = recipes.Partition(name=name, side=side)
    done = resets.reset(place / "base", place / "tuned", tmp_path / "out", chosen)
    base, tuned, got = (tensors(each) for each in (place / "base", place / "tuned", tmp_path / "out"))
    assert got.keys() == base.keys()
    kept = {key for key in got if is_of_language(name, key) == (side == "language")}
    for key, tensor in got.items():
        assert torch.equal(tensor, tuned[key] if key in kept else base[key]), key
        assert not torch.equal(tuned[key], base[key])
    assert done == {"name": name, "side": side, "kept": len(kept), "reset": len(got) - len(kept)}


def test_by_a_pattern(place, tmp_path):
    resets.reset(
        place / "base", place / "tuned", tmp_path / "out", recipes.Partition(match=r"layers\.2\.mlp")
    )
    base, tuned, got = (tensors(each) for each in (place / "base", place / "tuned", tmp_path / "out"))
    for key, tensor in got.items():
        assert torch.equal(tensor, tuned[key] if "layers.2.mlp" in key else base[key]), key


@pytest.mark.parametrize("side", ["task", "language"])
@pytest.mark.parametrize("name", ["A", "B", "Z"])
def test_of_an_adapter_the_other_sides_modules_are_gone(place, tmp_path, name, side):
    chosen = recipes.Partition(name=name, side=side)
    done = resets.reset(place / "base", place / "adapter", tmp_path / "out", chosen)
    before, after = factors(place / "adapter"), factors(tmp_path / "out")
    kept = {key for key in before if is_of_language(name, key) == (side == "language")}
    assert after.keys() == kept
    assert all(torch.equal(after[key], before[key]) for key in kept)
    assert (done["kept"], done["kept"] + done["reset"]) == (len(kept) // 2, len(before) // 2)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert len(config["target_modules"]) == done["kept"]


def test_an_adapter_keeps_its_scale_where_it_stays(place, tmp_path):
    """Its logits are those of the base with the kept ΔW = s·B·A written into it, s of rsLoRA."""
    resets.reset(
        place / "base", place / "adapter", tmp_path / "out", recipes.Partition(name="B", side="task")
    )
    model = llama(LAYERS)
    for path, update in updates(place / "adapter").items():
        if not is_of_language("B", path):
            model.get_submodule(path).weight.data += torch.tensor(update, dtype=torch.float32)
    got = logits(with_adapter(tmp_path / "out", LAYERS))
    torch.testing.assert_close(got, logits(model), rtol=0, atol=1e-4)
    assert not torch.allclose(got, logits(with_adapter(place / "adapter", LAYERS)), atol=1e-2)


def test_both_sides_together_are_the_whole_adapter(place, tmp_path):
    for side in ("task", "language"):
        chosen = recipes.Partition(name="A", side=side)
        resets.reset(place / "base", place / "adapter", tmp_path / side, chosen)
    merge([tmp_path / "task", tmp_path / "language"], tmp_path / "both", method="cat")
    torch.testing.assert_close(
        logits(with_adapter(tmp_path / "both", LAYERS)),
        logits(with_adapter(place / "adapter", LAYERS)),
        rtol=0,
        atol=2e-5,
    )


def test_mistakes(place, tmp_path):
    b = recipes.Partition(name="B", side="task")
    with pytest.raises(ConfigError, match="say which one trains"):
        resets.reset(place / "base", place / "tuned", tmp_path / "out", recipes.Partition(name="B"))
    with pytest.raises(CarrickError, match="no_such"):
        resets.reset(tmp_path / "no_such", place / "tuned", tmp_path / "out", b)
    few = save_adapter(tmp_path / "few", 0, layers=LAYERS, layers_to_transform=[0, 3])
    with pytest.raises(ConfigError, match="nothing would be left"):
        resets.reset(place / "base", few, tmp_path / "out", b)
    whole = save_adapter(tmp_path / "whole", 0, layers=LAYERS, modules_to_save=["lm_head"])
    with pytest.raises(ConfigError, match="more than LoRA factors"):
        resets.reset(place / "base", whole, tmp_path / "out", b)
    other = save_adapter(tmp_path / "other", 0, layers=LAYERS + 2)
    with pytest.raises(PlanError, match="use the base that the adapter was trained on"):
        resets.reset(place / "base", other, tmp_path / "out", b)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "adapter_model.safetensors").write_text("")
    with pytest.raises(PlanError, match="--force"):
        resets.reset(place / "base", place / "adapter", tmp_path / "out", b)
    resets.reset(place / "base", place / "adapter", tmp_path / "out", b, force=True)
    assert isinstance(with_adapter(tmp_path / "out", LAYERS), peft.PeftModel)
