"""Adapters as the models of a configuration: `carrick merge` makes an adapter of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

import carrick
from adapters.merging import FILE, Q, V, distance, knots_oracle, lora, meaning
from carrick.adapters import merge
from carrick.adapters.configured import merges_adapters
from carrick.cli import main
from oracles.files import read_file

TEXT = """\
merge_method: knots_ties
models:
- model: {one}
  parameters: {{weight: 1.0, density: 0.3}}
- model: {two}
  parameters:
    density: 0.6
    weight:
    - {{filter: q_proj, value: -0.5}}
    - value: 2.0
parameters:
  lambda: 0.8
  aggregate: sum
"""


@pytest.fixture
def pair(tmp_path):
    adapters = [lora(seed, rank=2 + seed) for seed in range(2)]
    return adapters, [one.write(tmp_path / f"adapter-{i}") for i, one in enumerate(adapters)]


def written(tmp_path, text, folders):
    path = tmp_path / "merge.yml"
    path.write_text(text.format(one=folders[0], two=folders[1]))
    return path


def read(folder):
    return meaning(read_file(folder / FILE), json.loads((folder / "adapter_config.json").read_text()))


def test_weights_of_modules_and_densities_of_adapters(pair, tmp_path):
    adapters, folders = pair
    assert main(["merge", str(written(tmp_path, TEXT, folders)), str(tmp_path / "out")]) == 0
    got = read(tmp_path / "out")
    options = {"density": [0.3, 0.6], "lambda_": 0.8, "aggregate": "sum"}
    want = knots_oracle("ties", adapters, weights=[1.0, 2.0], **options)
    q = Q.format(0)
    # The whole model is trimmed together: a weight does not change which entries are kept.
    want[q] = knots_oracle("ties", adapters, weights=[1.0, -0.5], **options)[q]
    assert distance(got, want) <= 1e-6
    assert V.format(0) in got


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({"method": "cat", "weights": [1, 2]}, {"merge_method": "cat"}),
        ({"method": "cat", "weights": [1, 2], "rank": 3}, {"merge_method": "cat", "rank": 3}),
        ({"method": "cat", "weights": [1, 2], "energy": 0.9, "dtype": "bfloat16"},
         {"merge_method": "cat", "energy": 0.9, "dtype": "bfloat16"}),
        ({"method": "ties", "weights": [1, 2], "density": 0.5, "rank": 3},
         {"merge_method": "ties", "rank": 3, "parameters": {"density": 0.5}}),
        ({"method": "knots_ties", "weights": [1, 2], "density": 0.5, "precision": "float64", "variant": "paper"},
         {"merge_method": "knots_ties", "variant": "paper", "precision": "float64", "parameters": {"density": 0.5}}),
        ({"method": "dare_ties", "weights": [1, 2], "density": 0.5, "space": "factors", "seed": 7},
         {"merge_method": "dare_ties", "space": "factors", "seed": 7, "parameters": {"density": 0.5}}),
    ],
    ids=lambda value: value.get("method", "") if isinstance(value, dict) else "",
)  # fmt: skip
def test_the_function_and_the_configuration_do_the_same(options, content, tmp_path):
    folders = [lora(seed).write(tmp_path / str(seed)) for seed in range(2)]
    models = [{"model": str(f), "parameters": {"weight": w}} for f, w in zip(folders, [1, 2], strict=True)]
    carrick.merge({**content, "models": models}, tmp_path / "configured")
    merge(folders, tmp_path / "called", **options)
    for name in (FILE, "adapter_config.json", "carrick.json"):
        assert (tmp_path / "configured" / name).read_bytes() == (tmp_path / "called" / name).read_bytes(), (
            name
        )


def test_mistakes_are_told_with_their_line(pair, tmp_path, capfd):
    _, folders = pair

    def refused(old, new, *words):
        path = written(tmp_path, TEXT.replace(old, new), folders)
        assert main(["merge", str(path), str(tmp_path / "out")]) == 2
        err = capfd.readouterr().err
        assert "Traceback" not in err
        for word in words:
            assert word in err, err
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.carrick-partial").exists()

    refused("lambda:", "lamda:", "merge.yml:12", "lambda")
    refused("density: 0.3", "density: 3", "merge.yml:4", "density")
    refused("merge_method: knots_ties", "merge_method: slerp", "slerp", "checkpoints")
    refused("parameters:\n  lambda", "rank: 0\nparameters:\n  lambda", "merge.yml:11", "`rank` is `0`")
    refused("parameters:\n  lambda", "space: factor\nparameters:\n  lambda", "merge.yml:11", "factors")


def test_names_that_nothing_can_have(pair, tmp_path, capfd):
    """A home folder of a user who is not there, a name that is too long."""
    for name in ("~no-such-user-here/en", "x" * 5000):
        for models in ([name], [name, str(pair[1][0])]):
            listed = [{"model": model, "parameters": {"weight": 1}} for model in models]
            content = {"merge_method": "linear", "models": listed}
            (tmp_path / "merge.yml").write_text(json.dumps(content))
            assert main(["merge", str(tmp_path / "merge.yml"), str(tmp_path / "out")]) == 2
            err = capfd.readouterr().err
            assert name[:20] in err
            assert "Traceback" not in err
        assert main(["adapters", "merge", name, str(pair[1][0]), "-o", str(tmp_path / "out")]) == 2
        err = capfd.readouterr().err
        assert "cannot be looked for" in err
        assert "Traceback" not in err


def test_adapters_and_a_model_do_not_mix(pair, tmp_path, capfd):
    _, folders = pair
    base = tmp_path / "model"
    base.mkdir()
    (base / "config.json").write_text("{}")
    models = [{"model": str(path), "parameters": {"weight": 1}} for path in (folders[0], base)]
    (tmp_path / "mixed.yml").write_text(json.dumps({"merge_method": "linear", "models": models}))
    assert main(["merge", str(tmp_path / "mixed.yml"), str(tmp_path / "out")]) == 2
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_seed_on_the_command_line_wins(tmp_path):
    folders = [lora(seed).write(tmp_path / str(seed)) for seed in range(2)]
    content = {
        "merge_method": "knots_dare_linear",
        "seed": 1,
        "parameters": {"density": 0.5},
        "models": [{"model": str(f)} for f in folders],
    }
    carrick.merge(content, tmp_path / "one")
    carrick.merge(content, tmp_path / "two", seed=2)
    merge(folders, tmp_path / "three", method="knots_dare_linear", density=0.5, seed=2)
    files = [read_file(tmp_path / name / FILE) for name in ("one", "two", "three")]
    assert all(np.array_equal(files[1][key], files[2][key]) for key in files[1])
    assert any(not np.array_equal(files[0][key], files[1][key]) for key in files[1])


def test_hub_ids_in_the_cache(pair, tmp_path, monkeypatch):
    """Ids are adapters where the snapshot in the cache is one; what is not there is left to the reader."""
    _, folders = pair
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    for number, folder in enumerate(folders):
        commit = str(number) * 40
        cached = cache / f"models--org--lora-{number}"
        (cached / "refs").mkdir(parents=True)
        (cached / "refs" / "main").write_text(commit)
        (cached / "snapshots").mkdir()
        (cached / "snapshots" / commit).symlink_to(folder)
    models = [{"model": "org/lora-0"}, {"model": f"org/lora-1@{'1' * 40}"}]
    carrick.merge({"merge_method": "cat", "models": models}, tmp_path / "out")
    merge(folders, tmp_path / "expected")
    assert (tmp_path / "out" / FILE).read_bytes() == (tmp_path / "expected" / FILE).read_bytes()
    assert not merges_adapters({"merge_method": "linear", "models": [{"model": "org/other"}]})
