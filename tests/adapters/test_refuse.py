"""Bad adapters: each is one error that names the file, the tensor or key, the reason and the remedy."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.zoo import Attention, Case, torch
from carrick.adapters.adapter import read_adapter
from carrick.errors import FormatError

Q = "base_model.model.model.layers.0.self_attn.q_proj"


def configure(folder, **changes):
    path = folder / "adapter_config.json"
    config = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value != "REMOVE"}))


def store(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refused(folder, *words):
    with pytest.raises(FormatError) as caught:
        read_adapter(folder)
    message = str(caught.value)
    assert message.startswith(str(folder))
    for word in words:
        assert word in message, message
    assert "\n" not in message


CONFIGURATIONS = {
    "kind": ({"peft_type": "IA3"}, ["`peft_type` is 'IA3'", "LORA"]),
    "no kind": ({"peft_type": "REMOVE"}, ["`peft_type` is missing"]),
    "no alpha": ({"lora_alpha": "REMOVE"}, ["`lora_alpha` is missing"]),
    "no rank": ({"r": None}, ["`r` is missing"]),
    "rank 0": ({"r": 0}, ["`r` is 0"]),
    "rank true": ({"r": True}, ["`r` is True"]),
    "alpha": ({"lora_alpha": "16"}, ["`lora_alpha` is '16'", "a finite number"]),
    "alpha too large": ({"lora_alpha": 10**400}, ["`lora_alpha` is 1000", "a finite number"]),
    "alpha NaN": ({"lora_alpha": float("nan")}, ["`lora_alpha` is nan"]),
    "flag": ({"use_rslora": "yes"}, ["`use_rslora` is 'yes'", "true or false"]),
    "bias": ({"bias": "some"}, ["`bias` is 'some'", '"lora_only"']),
    "pattern": ({"rank_pattern": {"q_proj": 2.5}}, ["`rank_pattern.q_proj` is 2.5"]),
    "patterns": ({"alpha_pattern": ["q_proj"]}, ["`alpha_pattern` is ['q_proj']"]),
    "regex": ({"alpha_pattern": {"(q": 3}}, ["`alpha_pattern`", "'(q'", "not a regular expression"]),
    "names": ({"modules_to_save": [1]}, ["`modules_to_save`", "a list of names"]),
    "tokens": ({"trainable_token_indices": [-1]}, ["`trainable_token_indices` is -1"]),
    "rows missing": ({"trainable_token_indices": [1]}, ["has no rows for `trainable_token_indices`"]),
    "rank differs": ({"r": 8}, ["has rank 4", "`r` of adapter_config.json says 8", "lora_A.weight"]),
    "rank of a pattern": ({"rank_pattern": {"v_proj": 5}}, ["has rank 4", "`rank_pattern`", "says 5", "v_proj"]),
    "loftq": ({"init_lora_weights": "loftq"}, ["`init_lora_weights` is 'loftq'", "quantised", "merge_and_unload"]),
    "pissa": ({"init_lora_weights": "pissa_niter_4"}, ["PiSSA", "path_initial_model_for_weight_conversion"]),
    "unknown init": ({"init_lora_weights": "magic"}, ["'magic'", "not known"]),
    "magnitudes missing": ({"use_dora": True}, ["`use_dora` is true", "has no magnitude"]),
    "biases missing": ({"lora_bias": True}, ["`lora_bias` is true", "has no bias"]),
    **{
        key: ({key: value}, [f"`{key}` is set", "not supported"])
        for key, value in {
            "use_qalora": True,
            "use_bdlora": {"match_strict": True},
            "kasa_config": {"beta": 1e-4},
            "alora_invocation_tokens": [1],
            "arrow_config": {"top_k": 3},
            "velora_config": {"rank": 1},
            "monteclora_config": {"samples": 4},
            "target_parameters": ["experts.gate_up_proj"],
            "layer_replication": [[0, 2]],
            "megatron_config": {"tensor_parallel": 2},
        }.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(name, adapter_folder):
    changes, words = CONFIGURATIONS[name]
    folder = adapter_folder()
    configure(folder, **changes)
    refused(folder, *words)


def rename(old, new):
    def change(tensors):
        tensors[new] = tensors.pop(old)

    return change


def put(name, array):
    return lambda tensors: tensors.update({name: np.asarray(array)})


F = np.float32
TENSORS = {
    "no B": (lambda t: t.pop(f"{Q}.lora_B.weight"), [f"{Q}.lora_A.weight", "the factor B of model.layers.0"]),
    "no A": (lambda t: t.pop(f"{Q}.lora_A.weight"), [f"{Q}.lora_B.weight", "the factor A of model.layers.0"]),
    "ranks": (put(f"{Q}.lora_B.weight", np.ones((16, 3), F)), ["has rank 3", "has rank 4", "lora_B"]),
    "both ranks": (
        lambda t: t.update(
            {f"{Q}.lora_B.weight": np.ones((16, 3), F), f"{Q}.lora_A.weight": np.ones((3, 16), F)}
        ),
        ["has rank 3", "says 4"],
    ),
    "unknown": (put(f"{Q}.lora_E.weight", np.ones(3, F)), [f"{Q}.lora_E.weight", "is no part of LoRA"]),
    "weight": (put("base_model.model.model.norm.weight", np.ones(3, F)), ["norm.weight", "`modules_to_save`"]),
    "bias": (put(f"{Q}.bias", np.ones(16, F)), [f"{Q}.bias", "`bias`"]),
    "integers": (put(f"{Q}.lora_A.weight", np.ones((4, 16), np.int8)), ["is I8", "floating point"]),
    "pieces": (put(f"{Q}.lora_A.weight", np.ones(0, F)), ["has the shape [0]", "gather"]),
    "dimensions": (put(f"{Q}.lora_B.weight", np.ones((16, 4, 1, 1), F)), ["[16, 4, 1, 1]", "[4, 16]"]),
    "two adapters": (put(f"{Q}.lora_A.other.weight", np.ones((4, 16), F)), ["same part of model.layers.0"]),
    "magnitude": (put(f"{Q}.lora_magnitude_vector", np.ones(16, F)), ["`use_dora`", "is not true"]),
    "bias of B": (put(f"{Q}.lora_B.bias", np.ones(16, F)), ["`lora_bias`", "is not true"]),
    "loose magnitude": (
        put("base_model.model.lm_head.lora_magnitude_vector", np.ones(16, F)),
        ["the factors of lm_head are not"],
    ),
    "tokens": (
        put("base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta", np.ones((2, 16), F)),
        ["no entry in `trainable_token_indices`"],
    ),
    "nothing": (lambda t: t.clear(), ["holds no tensor"]),
}  # fmt: skip


@pytest.mark.parametrize("name", TENSORS)
def test_tensors(name, adapter_folder):
    change, words = TENSORS[name]
    folder = adapter_folder()
    store(folder, change)
    refused(folder, *words)


def test_vectors_of_a_wrong_size(adapter_folder):
    folder = adapter_folder("dora")
    store(folder, put(f"{Q}.lora_magnitude_vector", np.ones(15, F)))
    refused(folder, f"{Q}.lora_magnitude_vector", "[15]", "16 floating point numbers")
    folder = adapter_folder("tokens")
    configure(folder, trainable_token_indices=[1, 5])
    refused(folder, "[3, 16]", "names 2 rows")


def test_modules_that_peft_itself_cannot_merge(tmp_path):
    refused(
        make_unmerged(Case(Attention, {"target_modules": ["attention"]}), tmp_path / "a"),
        "MultiheadAttention",
    )
    grouped = Case(lambda: torch.nn.Sequential(torch.nn.Conv2d(4, 8, 3, groups=2)), {"target_modules": ["0"]})
    refused(make_unmerged(grouped, tmp_path / "b"), "a convolution in 2 groups", "0.lora_B.weight")


def make_unmerged(case, folder):
    from adapters.zoo import wrap  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrap(case, 0).save_pretrained(folder)
    return folder


def test_folders(adapter_folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "is empty", "adapter_config.json")
    with pytest.raises(FormatError, match="no such file or folder"):
        read_adapter(tmp_path / "none")
    (empty / "config.json").write_text("{}")
    refused(empty, "a whole model, not an adapter")
    folder = adapter_folder()
    (folder / "adapter_config.json").rename(folder / "kept")
    refused(folder, "has no adapter_config.json", "rank and alpha")
    (folder / "kept").rename(folder / "adapter_config.json")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    refused(folder, "adapter_model.bin", "pickle", "save_pretrained")
    (folder / "adapter_model.bin").unlink()
    refused(folder, "no adapter_model.safetensors", "complete the download")
    with pytest.raises(FormatError, match="is a file; give the folder"):
        read_adapter(folder / "adapter_config.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", ["not valid JSON"]),
        ("[]", ["not a JSON object"]),
        ('{"r": 1, "r": 2}', ["'r' occurs twice"]),
        ("[" * 100_000, ["nested too deeply"]),
    ],
)
def test_malformed_json(text, words, adapter_folder):
    folder = adapter_folder()
    (folder / "adapter_config.json").write_text(text)
    refused(folder, *words)


def test_a_truncated_file(adapter_folder):
    folder = adapter_folder()
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    refused(folder, "adapter_model.safetensors")


def test_unknown_keys_are_noted(adapter_folder):
    folder = adapter_folder()
    configure(folder, use_new_idea=True, other_idea=None, third_idea={})
    (said,) = [note for note in read_adapter(folder).notes if "not known" in note]
    assert "(use_new_idea)" in said


def test_shards_with_an_index(adapter_folder):
    folder = adapter_folder()
    whole = read_adapter(folder)
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    path.unlink()
    weight_map = {}
    for number, letter in ((1, "A"), (2, "B")):
        name = f"adapter_model-{number:05d}-of-00002.safetensors"
        part = {key: tensor for key, tensor in tensors.items() if f"lora_{letter}" in key}
        save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / "adapter_model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    found = read_adapter(folder)
    assert found.modules.keys() == whole.modules.keys()
    assert {(m.a.file, m.b.file) for m in found.modules.values()} == {(0, 1)}
    (folder / name).unlink()
    refused(folder, name, "not in the folder")
