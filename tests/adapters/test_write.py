"""What the writer writes, PEFT loads without a missing or unexpected key, and means the same by it."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.zoo import CASES, Case, case, llama, make, peft, tensors, torch, wrap
from carrick.adapters import merge
from carrick.adapters.adapter import read_adapter
from carrick.adapters.write import (
    METADATA,
    adapter_config,
    bias_name,
    magnitude_name,
    plain_name,
    tensor_names,
    tokens_name,
    write_config,
)


def rewrite(folder, out):
    """An adapter with the names and the configuration of the writer: every α as α·r/√r for rsLoRA."""
    adapter = read_adapter(folder)
    held = {key: array.copy() for key, array in load_file(folder / "adapter_model.safetensors").items()}
    modules, written = adapter.modules, {}
    for path, module in modules.items():
        a, b = tensor_names(path, module.kind)
        written |= {a: held[module.a_name], b: held[module.b_name]}
        for part, name in (("lora_B.bias", bias_name), ("lora_magnitude_vector", magnitude_name)):
            if f"{path}.{part}" in adapter.keys:
                written[name(path)] = held[adapter.keys[f"{path}.{part}"]]
    for path in adapter.tokens:
        written[tokens_name(path)] = held[adapter.keys[path]]
    for name in [*adapter.saved, *adapter.biases]:
        written[plain_name(name, modules)] = held[adapter.keys[name]]
    config = adapter.config
    first = next(iter(adapter.tokens), None)
    tokens = {first if name == "" else name: rows for name, rows in config.trainable_token_indices.items()}
    content = adapter_config(
        config,
        {path: module.rank for path, module in modules.items()},
        alphas={path: module.scale * module.rank for path, module in modules.items()},
        modules_to_save=config.modules_to_save,
        trainable_token_indices=tokens,
        bias=config.bias,
        lora_bias=config.lora_bias,
        use_dora=config.use_dora,
    )
    out.mkdir()
    save_file(written, out / "adapter_model.safetensors", METADATA)
    write_config(out, content)
    return content


def load(model, folder):
    """Load an adapter as PEFT does and see that nothing was missing or left over."""
    config = peft.PeftConfig.from_pretrained(folder)
    wrapped = peft.PeftModel(model, config)
    result = wrapped.load_adapter(folder, "default")
    assert not result.unexpected_keys
    parts = ("lora_", "modules_to_save", "trainable_tokens_delta")
    assert not [key for key in result.missing_keys if any(part in key for part in parts)]
    return wrapped


def loaded(chosen, folder, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*(missing|unexpected|mismatch).*")
        torch.manual_seed(seed)
        wrapped = load(chosen.model().double(), folder)
        torch.manual_seed(seed)
        peft.PeftModel.from_pretrained(chosen.model().double(), folder)
    return wrapped


@pytest.mark.parametrize("name", CASES)
def test_peft_loads_it_and_means_the_same(name, made, tmp_path):
    source = made(name)
    content = rewrite(source.folder, tmp_path / "out")
    assert content["use_rslora"] is False
    wrapped = loaded(CASES[name], tmp_path / "out")
    merged = tensors(wrapped.merge_and_unload())
    assert merged.keys() == source.merged.keys()
    for key, tensor in source.merged.items():
        np.testing.assert_allclose(merged[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)


def test_the_file_is_written_as_peft_writes_it(made, tmp_path):
    rewrite(made("linear").folder, tmp_path / "out")
    text = (tmp_path / "out" / "adapter_config.json").read_text()
    ours, theirs = json.loads(text), json.loads((made("linear").folder / "adapter_config.json").read_text())
    assert text == json.dumps(ours, indent=2, sort_keys=True)
    assert ours.keys() == theirs.keys()
    changed = {key for key in ours if ours[key] != theirs[key]}
    assert changed == {"target_modules"}
    for name, path in (("linear", made("linear").folder), ("ours", tmp_path / "out")):
        keys = set(load_file(path / "adapter_model.safetensors"))
        assert keys == set(load_file(made("linear").folder / "adapter_model.safetensors")), name


class Top(torch.nn.Module):
    """A module of the model itself, whose name is the end of another's path."""

    def __init__(self):
        super().__init__()
        self.fc = torch.nn.Linear(4, 4)
        self.sub = torch.nn.ModuleDict({"fc": torch.nn.Linear(4, 4), "proj": torch.nn.Linear(4, 4)})


@pytest.mark.parametrize("targets", ["fc", r"fc|sub\.proj"])
def test_a_module_at_the_top_alone(targets, tmp_path):
    """In a list, `fc` would be `sub.fc` to PEFT as well, for which there are no factors."""
    chosen = Case(Top, {"target_modules": targets})
    folders = [make(chosen, tmp_path / str(seed), seed).folder for seed in range(2)]
    report = merge(folders, tmp_path / "out")
    assert isinstance(report.config["target_modules"], str)
    wrapped = loaded(chosen, tmp_path / "out")
    held = {name for name, module in wrapped.named_modules() if hasattr(module, "lora_A")}
    assert {name.removeprefix("base_model.model.") for name in held} == set(
        targets.replace("\\", "").split("|")
    )


class Nested(torch.nn.Module):
    """Modules of which the path of one is the end of another's."""

    def __init__(self):
        super().__init__()
        self.h = torch.nn.ModuleList([torch.nn.ModuleDict({"x": torch.nn.Linear(8, 8)}) for _ in range(12)])
        self.encoder = torch.nn.ModuleDict({"h": torch.nn.ModuleList([*self._more()])})

    def _more(self):
        return (torch.nn.ModuleDict({"x": torch.nn.Linear(8, 8)}) for _ in range(12))


@pytest.mark.parametrize("ranks", [(2, 3), (3, 2)])
def test_ranks_of_modules_whose_paths_end_alike(ranks, tmp_path):
    chosen = case(Nested, "x", rank_pattern={r"encoder\.h\.\d+\.x": ranks[0], "x": ranks[1]})
    source = make(chosen, tmp_path / "in")
    content = rewrite(source.folder, tmp_path / "out")
    assert len(content["rank_pattern"]) == 12
    wrapped = loaded(chosen, tmp_path / "out")
    # PEFT sorts the patterns when it saves; the ranks must not depend on their order.
    wrapped.save_pretrained(tmp_path / "again")
    found = {path: module.rank for path, module in read_adapter(tmp_path / "again").modules.items()}
    assert found == {path: ranks[0 if path.startswith("encoder") else 1] for path in found}
    merged = tensors(wrapped.merge_and_unload())
    for key, tensor in source.merged.items():
        np.testing.assert_allclose(merged[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)


def test_every_module_of_a_deeper_model(tmp_path):
    # From 20 targets on PEFT shortens the list by itself.
    chosen = case(lambda: llama(num_hidden_layers=12), "q_proj", "v_proj", "up_proj", "down_proj")
    source = make(chosen, tmp_path / "in")
    content = rewrite(source.folder, tmp_path / "out")
    assert len(content["target_modules"]) == 48
    merged = tensors(loaded(chosen, tmp_path / "out").merge_and_unload())
    for key, tensor in source.merged.items():
        np.testing.assert_allclose(merged[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)


def test_only_some_modules_of_a_type(tmp_path):
    # A merged adapter may have q_proj in one layer alone; the others must stay as they are.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        chosen = CASES["linear"]
        wrap(chosen, 0).save_pretrained(tmp_path / "in")
    keep = "model.layers.1.self_attn.q_proj"
    held = load_file(tmp_path / "in" / "adapter_model.safetensors")
    (tmp_path / "out").mkdir()
    save_file({k: v for k, v in held.items() if keep in k}, tmp_path / "out" / "adapter_model.safetensors")
    write_config(tmp_path / "out", adapter_config(read_adapter(tmp_path / "in").config, {keep: 4}))
    wrapped = loaded(chosen, tmp_path / "out")
    assert {n.split(".lora_")[0] for n, _ in wrapped.named_parameters() if "lora_" in n} == {
        f"base_model.model.{keep}"
    }


def test_default_rank_is_the_most_frequent_one(made):
    first = read_adapter(made("patterns_rslora").folder).config
    assert first.use_rslora
    config = adapter_config(first, {"a": 3, "b": 3, "c": 5, "d": 5, "e": 7}, alphas={"e": 1.5})
    assert (config["r"], config["lora_alpha"]) == (3, 3)
    assert config["rank_pattern"] == {"c": 5, "d": 5, "e": 7}
    assert config["alpha_pattern"] == {"c": 5, "d": 5, "e": 1.5}
    assert config["modules_to_save"] is None
    assert adapter_config(first, {})["r"] == 4


def test_what_chose_the_modules_of_the_first_input_is_gone(made):
    first = read_adapter(made("some_layers").folder).config
    first.raw.update(
        exclude_modules=["k_proj"], lora_dropout=0.1, init_lora_weights="eva", eva_config={"rho": 2}
    )
    first.raw.update(base_model_name_or_path="org/base", revision="v1", peft_version="0.13.2")
    config = adapter_config(first, {"model.layers.0.self_attn.q_proj": 4})
    for key in ("layers_to_transform", "layers_pattern", "exclude_modules", "eva_config"):
        assert config[key] is None
    assert config["target_modules"] == ["model.layers.0.self_attn.q_proj"]
    assert (config["lora_dropout"], config["init_lora_weights"], config["inference_mode"]) == (
        0.0,
        True,
        True,
    )
    kept = (config["base_model_name_or_path"], config["revision"], config["peft_version"])
    assert kept == ("org/base", "v1", "0.13.2")
