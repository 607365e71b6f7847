"""What cannot be compared: one error that names what is wrong, and exit code 2."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import carrick
from oracles.files import write_model


def checkpoint(folder, **tensors):
    return write_model(folder, tensors)


def adapter(folder):
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 1}))
    key = "base_model.model.q_proj.lora_{}.weight"
    factors = {key.format("A"): np.ones((1, 3), np.float32), key.format("B"): np.ones((2, 1), np.float32)}
    save_file(factors, folder / "adapter_model.safetensors")
    return folder


def refused(command, *words, says):
    answer = command(*words)
    assert answer.code == 2, answer
    assert answer.err.count("error: ") == 1
    for text in (says,) if isinstance(says, str) else says:
        assert text in answer.err
    assert not answer.out


def test_one_model(command, family):
    base, tuned = family(1)
    refused(command, tuned[0], "--base", base, says=("two models or more", "tuned0"))


def test_no_model(command):
    assert command().code == 2


def test_one_string_is_no_list():
    with pytest.raises(carrick.ConfigError, match="give a list"):
        carrick.similarity("model")


def test_checkpoints_without_a_base(command, family):
    _, tuned = family(2)
    refused(command, *tuned, says=("is a checkpoint", "--base BASE"))


def test_an_unknown_path(command, family, tmp_path):
    base, tuned = family(2)
    refused(
        command,
        tuned[0],
        tmp_path / "tuned7",
        "--base",
        base,
        says=("no such file or folder", "did you mean"),
    )


def test_an_unknown_base(command, family, tmp_path):
    _, tuned = family(2)
    refused(command, *tuned, "--base", tmp_path / "bse", says="no such file or folder")


def test_adapters_beside_checkpoints(command, family, tmp_path):
    base, tuned = family(1)
    lora = adapter(tmp_path / "lora")
    refused(command, tuned[0], lora, "--base", base, says=("is an adapter", f"BASE+{lora}"))


def test_an_adapter_as_the_base(command, family, tmp_path):
    _, tuned = family(2)
    refused(command, *tuned, "--base", adapter(tmp_path / "lora"), says="--base is the checkpoint")


def test_a_pattern_that_leaves_nothing_out(command, family, tmp_path):
    base, tuned = family(2)
    says = "exclude: 'q_prj' is found in the name of no tensor; did you mean `q_proj`?"
    refused(command, *tuned, "--base", base, "--exclude", "layers", "--exclude", "q_prj", says=says)
    lora = adapter(tmp_path / "lora")
    for inputs, what in (([*tuned, "--base", base], "tensor"), ([lora, lora], "module")):
        answer = command(*inputs, "--exclude", "zzzz")
        assert answer.code == 0
        assert f"exclude: 'zzzz' is in the name of no {what} and leaves nothing out." in answer.err


def test_different_shapes(command, tmp_path):
    base = checkpoint(tmp_path / "base", w=np.zeros((2, 3), np.float32))
    one = checkpoint(tmp_path / "one", w=np.zeros((2, 3), np.float32))
    two = checkpoint(tmp_path / "two", w=np.zeros((3, 2), np.float32))
    says = (str(two / "model.safetensors"), "'w'", "[3, 2]", "[2, 3]", "--exclude")
    refused(command, one, two, "--base", base, says=says)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_are_named_by_file_tensor_and_place(command, tmp_path, value, dtype):
    tensors = {name: {"w": np.zeros(70_000, dtype)} for name in ("base", "one", "two")}
    tensors["two"]["w"][69_000] = value
    base, one, two = (checkpoint(tmp_path / name, **held) for name, held in tensors.items())
    says = (str(two / "model.safetensors"), '"w"', "element 69000", "--exclude")
    refused(command, one, two, "--base", base, says=says)


def test_nan_in_the_base(command, tmp_path):
    nan = {"w": np.full(3, np.nan, np.float32)}
    base = checkpoint(tmp_path / "base", **nan)
    one = checkpoint(tmp_path / "one", **nan)
    refused(command, one, one, "--base", base, says=(str(base), "element 0"))


def test_differences_beyond_float32(command, tmp_path):
    large = np.full(3, 3e38, np.float32)
    base, one = checkpoint(tmp_path / "base", w=-large), checkpoint(tmp_path / "one", w=large)
    refused(command, one, one, "--base", base, says="too far from the base's for float32")


def test_squares_beyond_float64(command, tmp_path):
    base, one = (
        checkpoint(tmp_path / "base", w=np.zeros(1)),
        checkpoint(tmp_path / "one", w=np.full(1, 1e200)),
    )
    refused(command, one, one, "--base", base, says=('"w"', "too large for float64"))


def test_nothing_in_common(command, tmp_path):
    base = checkpoint(tmp_path / "base", a=np.zeros(1, np.float32))
    one = checkpoint(tmp_path / "one", b=np.zeros(1, np.float32))
    refused(command, one, one, "--base", base, says=("no floating-point tensor", "not in all: a"))


def test_a_quantised_model(command, tmp_path):
    base = checkpoint(tmp_path / "base", w=np.zeros(1, np.float32))
    config = {"model_type": "llama", "quantization_config": {"quant_method": "fp8"}}
    one = write_model(tmp_path / "one", {"w": np.zeros(1, np.float32)}, config=config)
    refused(command, one, one, "--base", base, says="quantised")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--exclude", "("], "is no regular expression"),
        (["--memory", "1kB"], "MiB of memory are needed"),
        (["--memory", "lots"], "is no size"),
        (["--threads", "0"], "at least 1"),
        (["--by", "row"], "--by"),
        (["--plot", "map.pdf"], "a .png or a .svg"),
        (["--plot", "nowhere/map.png"], "there is no folder"),
    ],
)
def test_options(command, family, words, says):
    base, tuned = family(2)
    refused(command, *tuned, "--base", base, *words, says=says)


def test_a_file_that_is_cut(command, family):
    base, tuned = family(2)
    path = tuned[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    refused(command, *tuned, "--base", base, says=str(path))


def test_an_adapter_that_is_a_pickle(command, tmp_path):
    lora = adapter(tmp_path / "lora")
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    refused(command, lora, lora, says="pickle")
