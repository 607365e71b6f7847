"""What PEFT writes is what the reader says: the model that PEFT makes of an adapter, made again in NumPy."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest

from adapters.dense import applied
from adapters.zoo import CASES, peft, torch, wrap
from carrick.adapters.adapter import read_adapter
from carrick.errors import FormatError


@pytest.mark.parametrize("name", CASES)
def test_the_merged_model_is_that_of_peft(name, made):
    case = made(name)
    adapter = read_adapter(case.folder)
    found = applied(adapter, case.base)
    assert found.keys() == case.merged.keys()
    changed = [key for key, tensor in case.merged.items() if not np.array_equal(tensor, case.base[key])]
    assert changed
    for key, tensor in case.merged.items():
        np.testing.assert_allclose(found[key], tensor, rtol=1e-12, atol=1e-12, err_msg=key)


def test_every_tensor_of_the_file_has_its_place(made):
    for name in CASES:
        adapter = read_adapter(made(name).folder)
        keys = set(adapter.keys.values())
        for module in adapter.modules.values():
            keys |= {module.a_name, module.b_name}
        left = set(adapter.checkpoint.tensors) - keys
        assert all(".original_module." in key or ".modules_to_save." in key for key in left), name


def test_configuration_is_read(made):
    config = read_adapter(made("patterns_rslora").folder).config
    assert (config.r, config.lora_alpha, config.use_rslora) == (4, 8, True)
    assert config.rank_pattern == {"layers.1.self_attn.q_proj": 3, ".*v_proj": 2, "q_proj": 5}
    assert read_adapter(made("bias_all").folder).config.task_type == "SEQ_CLS"
    layers = read_adapter(made("some_layers").folder)
    assert layers.config.layers_to_transform == (1,)
    assert {path.split(".")[2] for path in layers.modules} == {"1"}


def test_parts_are_told_apart(made):
    saved = read_adapter(made("saved").folder)
    assert {"lm_head.weight", "model.embed_tokens.weight"} < saved.saved.keys()
    assert "model.layers.1.input_layernorm.weight" in saved.saved
    assert not saved.biases
    assert not saved.carried
    # Beside LoRA on embeddings PEFT stores the base's own weights.
    embedding = read_adapter(made("embedding").folder)
    assert embedding.saved.keys() == embedding.carried == {"lm_head.weight", "model.embed_tokens.weight"}
    biases = read_adapter(made("bias_lora_only").folder)
    assert all(name.endswith("query.bias") for name in biases.biases)
    assert biases.saved.keys() == {"classifier.weight", "classifier.bias"}
    tokens = read_adapter(made("tokens_by_name").folder).tokens
    assert {path: rows.indices for path, rows in tokens.items()} == {
        "model.embed_tokens": (4, 2),
        "lm_head": (7,),
    }
    kinds = {path: m.kind for path, m in read_adapter(made("embedding").folder).modules.items()}
    assert kinds["model.embed_tokens"] == "embedding"
    assert kinds["lm_head"] == "linear"


def test_a_resized_vocabulary(tmp_path):
    # PEFT stores the whole embeddings once the base on disk has another vocabulary.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(2)
        model = CASES["linear"].model()
        model.save_pretrained(tmp_path / "base")
        model = type(model).from_pretrained(tmp_path / "base")
        model.resize_token_embeddings(40)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["q_proj"]))
        wrapped.save_pretrained(tmp_path / "adapter")
    adapter = read_adapter(tmp_path / "adapter")
    assert adapter.saved.keys() == adapter.carried == {"lm_head.weight", "model.embed_tokens.weight"}
    assert adapter.saved["lm_head.weight"].shape == (40, 16)


def test_shapes_of_modules(made):
    modules = read_adapter(made("convolutions").folder).modules
    two = modules["two"]
    assert (two.kind, two.rank, two.out_features, two.in_features) == ("conv", 4, 6, 4 * 3 * 2)
    assert two.weight_name == "two.weight"
    embedding = read_adapter(made("embedding").folder).modules["model.embed_tokens"]
    assert (embedding.out_features, embedding.in_features, embedding.transposed) == (16, 32, True)


def test_a_save_of_several_adapters(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = wrap(CASES["linear"], 1)
        wrapped.add_adapter("german", peft.LoraConfig(r=2, target_modules=["q_proj"]))
        wrapped.add_adapter("french", peft.LoraConfig(r=3, target_modules=["k_proj"]))
        wrapped.save_pretrained(tmp_path)
    assert read_adapter(tmp_path).config.r == read_adapter(tmp_path, name="default").config.r == 4
    assert read_adapter(tmp_path, name="german").config.r == 2
    assert read_adapter(tmp_path / "french").config.r == 3
    with pytest.raises(FormatError, match="named 'germann'; did you mean `german`"):
        read_adapter(tmp_path, name="germann")
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(FormatError, match=r"several adapters \(french, german\); name one: .*french"):
        read_adapter(tmp_path)
    (tmp_path / "french" / "adapter_config.json").unlink()
    with pytest.raises(FormatError, match=r"an adapter in a sub-folder \(german\)"):
        read_adapter(tmp_path)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_an_initialisation_that_changes_the_base_counts_once_converted(init, tmp_path):
    # PEFT's way: keep the initial factors, train, subtract them on save.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(5)
        model = CASES["linear"].model()
        base = {name: tensor.numpy().astype(np.float64) for name, tensor in model.state_dict().items()}
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=init)
        wrapped = peft.get_peft_model(model, config)
        wrapped.peft_config["default"].init_lora_weights = True
        wrapped.save_pretrained(tmp_path / "initial")
        wrapped.peft_config["default"].init_lora_weights = init
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_" in name:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
        wrapped.save_pretrained(tmp_path / "plain")
        wrapped.save_pretrained(
            tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "initial")
        )
        merged = wrapped.merge_and_unload().state_dict()
    with pytest.raises(FormatError, match=f"`init_lora_weights` is '{init}'.*changes the base.*convert it"):
        read_adapter(tmp_path / "plain")
    adapter = read_adapter(tmp_path / "converted")
    assert adapter.config.r == 8
    for key, tensor in applied(adapter, base).items():
        np.testing.assert_allclose(tensor, merged[key].numpy(), atol=2e-6, err_msg=key)


def test_keys_of_a_live_model_are_accepted(adapter_folder):
    from safetensors.numpy import load_file, save_file  # noqa: PLC0415

    for name in ("embedding", "dora", "tokens"):
        folder = adapter_folder(name)
        path = folder / "adapter_model.safetensors"
        expected = read_adapter(folder)
        named = {}
        for key, tensor in load_file(path).items():
            for part in ("lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"):
                key = key.replace(f".{part}", f".{part}.default")  # noqa: PLW2901
            named[key.replace("tokens_delta", "tokens_delta.default")] = tensor
        save_file(named, path)
        found = read_adapter(folder)
        assert found.modules.keys() == expected.modules.keys()
        assert found.saved.keys() == expected.saved.keys()
        assert found.tokens.keys() == expected.tokens.keys()


def test_neither_torch_nor_peft_is_imported(made):
    code = (
        "import sys; from carrick.adapters import read; read(sys.argv[1]); "
        "print(sorted({'torch', 'peft', 'transformers', 'huggingface_hub'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(made("linear").folder)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
