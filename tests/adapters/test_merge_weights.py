"""Weights that are written behind the adapters' names, as `apply` takes them."""

from __future__ import annotations

import pytest

from adapters.handmade import HIDDEN, base_tensors, write_base
from adapters.merging import FILE, Q, distance, lora, meaning, result
from carrick.adapters import merge
from carrick.adapters.dense import merge_into_base
from carrick.cli import main
from carrick.errors import ConfigError, FormatError
from oracles.files import read_file, read_model

SHAPES = {Q.format(layer): (HIDDEN, HIDDEN) for layer in range(2)}


@pytest.fixture
def pair(tmp_path):
    return [str(lora(seed, SHAPES).write(tmp_path / name)) for seed, name in enumerate(("en", "de"))]


def weighted(folders, weights):
    """The exact sum in float64."""
    adapters = [lora(seed, SHAPES).updates() for seed in range(len(folders))]
    return {path: sum(w * one[path] for w, one in zip(weights, adapters, strict=True)) for path in SHAPES}


@pytest.mark.parametrize(
    ("written", "weights"),
    [
        ((":0.5", ""), (0.5, 1)),
        (("", ":-2"), (1, -2)),
        ((":1e-3", ":+.5"), (1e-3, 0.5)),
        ((":1", ""), (1, 1)),
    ],
)
def test_the_weight_is_what_follows_the_last_colon(written, weights, pair, tmp_path, capfd):
    named = [folder + text for folder, text in zip(pair, written, strict=True)]
    assert main(["adapters", "merge", *named, "-o", str(tmp_path / "named")]) == 0
    listed = ",".join(map(str, weights))
    assert main(["adapters", "merge", *pair, "-o", str(tmp_path / "listed"), "--weights", listed]) == 0
    capfd.readouterr()
    for name in (FILE, "adapter_config.json", "carrick.json"):
        assert (tmp_path / "named" / name).read_bytes() == (tmp_path / "listed" / name).read_bytes(), name
    report = merge(named)
    assert distance(result(report), weighted(pair, weights)) <= 1e-6


def test_into_the_base(pair, tmp_path):
    base = write_base(tmp_path / "base", base_tensors())
    merge_into_base(base, [f"{pair[0]}:0.5", pair[1]], tmp_path / "named", method="ties", density=0.5)
    merge_into_base(base, pair, tmp_path / "listed", method="ties", density=0.5, weights=[0.5, 1])
    one, other = (read_model(tmp_path / name) for name in ("named", "listed"))
    assert {name: tensor.tobytes() for name, tensor in one.items()} == {
        name: tensor.tobytes() for name, tensor in other.items()
    }


def test_a_folder_of_that_name_is_taken_as_it_is(pair, tmp_path):
    folder = str(lora(1, SHAPES).write(tmp_path / "de:0.5"))
    assert distance(result(merge([pair[0], folder])), weighted(pair, (1, 1))) <= 1e-6
    assert distance(result(merge([pair[0], f"{folder}:0.25"])), weighted(pair, (1, 0.25))) <= 1e-6


def test_beside_an_adapter_in_memory(pair):
    report = merge([lora(0, SHAPES).state, f"{pair[1]}:0.5"])
    assert distance(result(report), weighted(pair, (1, 0.5))) <= 1e-6


def test_a_revision_and_a_weight(pair, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    commit = "1" * 40
    cached = tmp_path / "cache" / "models--org--de"
    (cached / "snapshots").mkdir(parents=True)
    (cached / "snapshots" / commit).symlink_to(pair[1])
    merge([pair[0], f"org/de@{commit}:0.5"], tmp_path / "out")
    config = {"r": 6, "lora_alpha": 6}
    assert distance(meaning(read_file(tmp_path / "out" / FILE), config), weighted(pair, (1, 0.5))) <= 1e-6
    base = write_base(tmp_path / "base", base_tensors())
    merge_into_base(base, [f"org/de@{commit}:0.5"], tmp_path / "dense")
    want = base_tensors()[f"{Q.format(0)}.weight"] + 0.5 * lora(1, SHAPES).updates()[Q.format(0)]
    assert abs(read_model(tmp_path / "dense")[f"{Q.format(0)}.weight"] - want).max() <= 1e-6


def test_weights_are_given_once(pair, tmp_path, capfd):
    words = ["adapters", "merge", f"{pair[0]}:1", pair[1], "-o", str(tmp_path / "out"), "--weights", "1,1"]
    assert main(words) == 2
    err = capfd.readouterr().err
    assert f"the weights are given twice, by `{pair[0]}:1` and by a list (--weights" in err
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match="given twice"):
        merge_into_base(tmp_path, [f"{pair[0]}:1"], tmp_path / "out", weights=[1])
    with pytest.raises(ConfigError, match="listed twice"):
        merge([f"{pair[0]}:1", f"{pair[0]}:2"])


def test_what_is_no_weight(pair):
    with pytest.raises(FormatError, match=r"en:half: no such file or folder"):
        merge([f"{pair[0]}:half", pair[1]])
    with pytest.raises(ConfigError, match="1e999; it has to be finite"):
        merge([f"{pair[0]}:1e999", pair[1]])
    with pytest.raises(FormatError, match=r"did you mean .*de`\?"):
        merge([pair[0], f"{pair[1]}x:0.5"])
