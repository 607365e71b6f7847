"""What cannot be applied: one message that says why, exit code 2, nothing left behind."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from adapters.handmade import DOWN, HIDDEN, PREFIX, WIDE, Handmade, Q, adapter, base_tensors, write_base
from carrick.cli import main

F = np.float32
FIRST, SECOND = (Q.format(n) for n in range(2))
KEY = f"{PREFIX}{FIRST}"


def spoil(folder, change):
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def pickled(_, folder):
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    return ["adapter_model.bin", "pickle"]


def truncated(_, folder):
    path = folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    return ["adapter_model.safetensors"]


def empty(_, folder):
    for file in folder.iterdir():
        file.unlink()
    return [str(folder), "is empty"]


def a_factor_missing(_, folder):
    spoil(folder, lambda t: t.pop(f"{KEY}.lora_B.weight"))
    return [f"{KEY}.lora_A.weight", f"the factor B of {FIRST}"]


def alpha_missing(_, folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    del config["lora_alpha"]
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return ["adapter_config.json", "`lora_alpha` is missing"]


def of_another_size(base, _):
    tensors = base_tensors() | {f"{SECOND}.weight": np.zeros((HIDDEN, WIDE), F)}
    write_base(base, tensors)
    return [
        f"{SECOND}: ",
        "adapter_model.safetensors changes a weight of the shape [16, 16]",
        f"'{SECOND}.weight' in ",
        "model.safetensors has [16, 24]",
    ]


def without_the_module(base, _):
    tensors = base_tensors()
    del tensors[f"{FIRST}.weight"]
    write_base(base, tensors)
    return [f"{FIRST}: the base has no tensor '{FIRST}.weight'", "did you mean", "trained on"]


def with_integers(base, _):
    write_base(base, base_tensors() | {f"{FIRST}.weight": np.zeros((HIDDEN, HIDDEN), np.int8)})
    return [f"'{FIRST}.weight': is I8", "model.safetensors", "floating-point"]


def quantised(base, _):
    write_base(base, base_tensors(), quantization_config={"quant_method": "fp8"})
    return ["quantised", "(fp8)"]


def of_nan(_, folder):
    spoil(folder, lambda t: t[f"{KEY}.lora_A.weight"].__setitem__((0, 0), np.nan))
    return [
        str(folder / "adapter_model.safetensors"),
        f"{KEY}.lora_A.weight",
        "NaN or infinities; train the adapter",
    ]


def of_infinity(_, folder):
    spoil(folder, lambda t: t[f"{KEY}.lora_B.weight"].__setitem__((3, 1), np.inf))
    return [str(folder / "adapter_model.safetensors"), f"{KEY}.lora_B.weight", "NaN or infinities"]


def a_tied_head(base, folder):
    tensors = {name: tensor for name, tensor in base_tensors().items() if name != "lm_head.weight"}
    write_base(base, tensors, tie_word_embeddings=True)
    adapter(1, "lm_head").write(folder)
    return ["changes lm_head", "ties to its embeddings", "head of its own"]


def a_tied_head_that_is_stored(base, folder):
    tensors = base_tensors()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    write_base(base, tensors, tie_word_embeddings=True)
    adapter(1, "lm_head").write(folder)
    return ["changes 'lm_head.weight'", "tied to the embeddings and not written", "`tie: untie`"]


def embeddings_apart_from_a_head_with_more(base, folder):
    write_base(base, {name: tensor for name, tensor in base_tensors().items() if name != "lm_head.weight"})
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "tie_word_embeddings": True}
    (base / "config.json").write_text(json.dumps(config))
    made = adapter(1, modules_to_save=["embed_tokens"])
    made.more = {"model.embed_tokens.weight": np.ones((20, HIDDEN), F)}
    made.write(folder)
    key = f"{PREFIX}model.embed_tokens.weight"
    return [
        key,
        "`ensure_weight_tying` is not true",
        "'cls.predictions.decoder.weight' needs more than its weights",
    ]


def saved_of_another_size(_, folder):
    made = adapter(1, modules_to_save=["lm_head"])
    made.more = {"lm_head.weight": np.ones((22, HIDDEN), F)}
    made.write(folder)
    return [f"{PREFIX}lm_head.weight", "[22, 16]", "[20, 16]", "resize the base's vocabulary"]


def a_bias_that_the_base_lacks(_, folder):
    made = adapter(1, lora_bias=True)
    made.more = {f"{path}.lora_B.bias": np.ones(HIDDEN, F) for path in (FIRST, SECOND)}
    made.write(folder)
    return [f"{KEY}.lora_B.bias", f"has no '{FIRST}.bias'", "`lora_bias`"]


def a_bias_of_another_size(base, folder):
    write_base(base, base_tensors(**{f"{path}.bias": np.ones(HIDDEN - 1, F) for path in (FIRST, SECOND)}))
    a_bias_that_the_base_lacks(base, folder)
    return [f"{KEY}.lora_B.bias", "has 16 elements", f"'{FIRST}.bias' in ", "[15]"]


def a_trained_bias_that_the_base_lacks(_, folder):
    made = adapter(1, bias="all")
    made.more = {f"{FIRST}.bias": np.ones(HIDDEN, F)}
    made.write(folder)
    return [f"{KEY}.bias", f"has no counterpart '{FIRST}.bias'"]


def rows_beyond_the_vocabulary(_, folder):
    key = "model.embed_tokens.token_adapter.trainable_tokens_delta"
    config = {"trainable_token_indices": [3, 20]}
    Handmade({}, config, {key: np.ones((2, HIDDEN), F)}).write(folder)
    return [f"{PREFIX}{key}", "rows up to 20", "[20, 16]"]


def rows_of_an_unknown_embedding(_, folder):
    key = "model.embedding.token_adapter.trainable_tokens_delta"
    config = {"trainable_token_indices": {"embedding": [3]}}
    Handmade({}, config, {key: np.ones((1, HIDDEN), F)}).write(folder)
    return [f"{PREFIX}{key}", "has no counterpart 'model.embedding.weight'", "did you mean"]


BROKEN = [
    pickled, truncated, empty, a_factor_missing, alpha_missing, of_another_size, without_the_module, with_integers,
    quantised, of_nan, of_infinity, a_tied_head, a_tied_head_that_is_stored,
    embeddings_apart_from_a_head_with_more,
    saved_of_another_size, a_bias_that_the_base_lacks, a_bias_of_another_size, a_trained_bias_that_the_base_lacks,
    rows_beyond_the_vocabulary, rows_of_an_unknown_embedding,
]  # fmt: skip


@pytest.fixture
def pair(tmp_path):
    base = write_base(tmp_path / "base", base_tensors())
    folder = adapter(1, FIRST, SECOND).write(tmp_path / "adapter")
    return base, folder


def refused(tmp_path, capfd, arguments, words):
    before = sorted(tmp_path.rglob("*"))
    code = main(["adapters", "apply", *map(str, arguments), "-o", str(tmp_path / "out" / "merged")])
    out, err = capfd.readouterr()
    assert code == 2, err
    assert out == ""
    lines = err.strip().splitlines()
    assert len([line for line in lines if line.startswith("error: ")]) == 1
    assert "Traceback" not in err
    for word in words:
        assert word in err, err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("break_it", BROKEN, ids=lambda function: function.__name__)
def test_bad_input(break_it, pair, tmp_path, capfd):
    words = break_it(*pair)
    refused(tmp_path, capfd, pair, words)


WEIGHED = {
    "dora": ({"use_dora": True}, "lora_magnitude_vector", "norms of whole rows", "weight 1"),
    "new head": ({"modules_to_save": ["score"]}, "score.weight", "nothing to start from", "weight 1"),
}


@pytest.mark.parametrize("name", WEIGHED)
def test_weights_where_there_can_be_none(name, pair, tmp_path, capfd):
    config, *words = WEIGHED[name]
    made = adapter(1, FIRST, **config)
    made.more = (
        {f"{FIRST}.lora_magnitude_vector": np.ones(HIDDEN, F)}
        if name == "dora"
        else {"score.weight": np.ones((2, HIDDEN), F)}
    )
    base, folder = pair
    made.write(folder)
    refused(tmp_path, capfd, (base, f"{folder}:0.5"), [*words, "0.5"])


def test_saved_integers_have_no_weight(pair, tmp_path, capfd):
    base, folder = pair
    write_base(base, base_tensors(**{"batch.count": np.ones(3, np.int64)}))
    made = adapter(1, FIRST, modules_to_save=["batch"])
    made.more = {"batch.count": np.full(3, 7, np.int64)}
    made.write(folder)
    refused(tmp_path, capfd, (base, f"{folder}:2"), ["batch.count", "I64"])
    assert main(["adapters", "apply", str(base), str(folder), "-o", str(tmp_path / "whole")]) == 0
    assert load_file(tmp_path / "whole" / "model.safetensors")["batch.count"].tolist() == [7, 7, 7]


def test_what_is_not_there(pair, tmp_path, capfd):
    base, folder = pair
    refused(tmp_path, capfd, (base, f"{folder}x"), ["adapterx", "no such file or folder", "did you mean"])
    refused(tmp_path, capfd, (f"{base}x", folder), ["basex", "no such file or folder"])
    refused(tmp_path, capfd, (base, base), [f"{base}: has no adapter_config.json", "a whole model"])
    refused(tmp_path, capfd, (folder, folder), ["adapter"])


def test_options(pair, tmp_path, capfd):
    refused(tmp_path, capfd, (*pair, "--dtype", "bfloat"), ["bfloat"])
    refused(tmp_path, capfd, (*pair, "--shard-size", "some"), ["shard size 'some'"])
    refused(tmp_path, capfd, (*pair, "--threads", "0"), ["threads is 0"])
    refused(tmp_path, capfd, (pair[0], f"{pair[1]}:1e999"), ["has to be finite"])
    refused(tmp_path, capfd, (*pair, "--memory", "1kB"), ["memory"])


def test_an_output_that_exists_needs_force(pair, tmp_path, capfd):
    words = ["adapters", "apply", *map(str, pair), "-o", str(tmp_path / "out")]
    assert main(words) == 0
    stamp = (tmp_path / "out" / "model.safetensors").stat().st_ino
    capfd.readouterr()
    assert main(words) == 2
    assert "--force" in capfd.readouterr().err
    assert (tmp_path / "out" / "model.safetensors").stat().st_ino == stamp
    assert main([*words, "--force", "--json"]) == 0
    report = json.loads(capfd.readouterr().out)
    assert report["tensors"] == len(base_tensors())
    assert (tmp_path / "out" / "model.safetensors").stat().st_ino != stamp


def test_a_damaged_base_stays_the_readers_business(pair, tmp_path, capfd):
    path = pair[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    refused(tmp_path, capfd, pair, ["model.safetensors"])


def test_an_adapter_in_a_yaml_is_refused_with_its_place(pair, tmp_path, capfd):
    base, folder = pair
    (tmp_path / "c.yml").write_text(f"merge_method: passthrough\nmodels:\n- {{model: {base}+{folder}+}}\n")
    assert main(["merge", str(tmp_path / "c.yml"), str(tmp_path / "out")]) == 2
    assert "c.yml:3: `model` is" in capfd.readouterr().err


def test_modules_of_all_layers_are_checked(pair, tmp_path, capfd):
    base, folder = pair
    adapter(1, FIRST, DOWN.format(1)).write(folder)
    tensors = base_tensors()
    tensors[f"{DOWN.format(1)}.weight"] = np.zeros((HIDDEN, WIDE + 1), F)
    write_base(base, tensors)
    refused(tmp_path, capfd, pair, [DOWN.format(1), "[16, 24]", "[16, 25]"])
