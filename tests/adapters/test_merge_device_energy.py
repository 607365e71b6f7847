"""`--device` with `--energy`: the ranks and the updates of the core."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters.loading import updates_of
from adapters.merging import Q, V, distance, lora, merged, result
from adapters.zoo import CASES, make, torch
from carrick.adapters import merge
from carrick.cli import main

DEVICES = [
    "torch:cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
DROPS = ["ties", "dare_linear", "dare_ties", "magnitude_prune"]
METHODS = [
    "cat", "linear", "task_arithmetic", *DROPS, "knots_linear", *(f"knots_{name}" for name in DROPS)
]  # fmt: skip
WEIGHTS = [1.5, -0.5, 1.0]


@pytest.fixture(scope="module")
def three():
    return [lora(seed, rank=2 + seed, alpha=4, rslora=seed == 2) for seed in range(3)]


def asked(method):
    drops = {"density": 0.4} if method.removeprefix("knots_") in DROPS else {}
    seed = {"seed": 8} if "dare" in method else {}
    return {"method": method, "weights": WEIGHTS, "parameters": {"lambda": 0.7}, **drops, **seed}


def assert_same(other, core):
    """Ranks, patterns, errors and spectra; the update by the gap at each cut is close."""
    assert other.config == core.config
    assert other.notes == core.notes
    for one, two in zip(core.modules, other.modules, strict=True):
        assert (one["path"], one["rank"]) == (two["path"], two["rank"])
        assert two["error"] == pytest.approx(one["error"], abs=2e-6)
        count = min(len(one["sigma"]), len(two["sigma"]))
        assert count >= one["rank"]
        np.testing.assert_allclose(two["sigma"][:count], one["sigma"][:count], rtol=1e-5, atol=1e-7)
        assert two["min_gap"] == pytest.approx(one["min_gap"], rel=1e-3)
    assert distance(result(other), result(core)) <= 5e-6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("energy", [1e-6, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("method", METHODS)
def test_ranks_are_those_of_the_core(method, energy, device, three):
    core, other = (merged(three, energy=energy, device=where, **asked(method)) for where in ("cpu", device))
    assert_same(other, core)
    ranks = [module["rank"] for module in other.modules]
    if energy == 1e-6:
        assert ranks == [1, 1, 1]
    elif energy < 1:
        assert len(set(ranks)) > 1


@pytest.mark.parametrize("direction", ["columns", "rows"])
def test_knots_by_rows(direction, three):
    options = {**asked("knots_ties"), "parameters": {"direction": direction}, "energy": 0.95}
    core, other = (merged(three, device=where, **options) for where in ("cpu", "torch:cpu"))
    assert_same(other, core)


@pytest.mark.parametrize("method", ["cat", "ties", "knots_ties"])
def test_doubles(method, three):
    """The core cuts dense matrices in float32, a device in float64: the ranks are the same."""
    options = {**asked(method), "precision": "float64", "dtype": "float64", "energy": 0.97}
    core, other = (merged(three, device=where, **options) for where in ("cpu", "torch:cpu"))
    assert [m["rank"] for m in core.modules] == [m["rank"] for m in other.modules]
    assert distance(result(other), result(core)) <= 2e-6
    assert not [note for note in other.notes if "float32" in note]


@pytest.mark.parametrize("device", DEVICES)
def test_a_module_of_zeros_and_one_that_an_adapter_lacks(device):
    adapters = [lora(seed, rank=3) for seed in range(3)]
    for one in adapters:
        a, b = one.factors[V.format(0)]
        one.factors[V.format(0)] = (a, b * 0)
    del adapters[1].factors[Q.format(0)]
    for method in ("cat", "ties", "knots_ties"):
        core, other = (merged(adapters, energy=0.9, device=d, **asked(method)) for d in ("cpu", device))
        ranks = {module["path"]: module["rank"] for module in other.modules}
        assert ranks == {module["path"]: module["rank"] for module in core.modules}
        assert ranks[V.format(0)] == 0
        assert other.config == core.config
        assert distance(result(other), result(core)) <= 5e-6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["embedding", "convolutions", "gpt2", "patterns_rslora"])
@pytest.mark.parametrize("method", ["cat", "ties", "knots_ties"])
def test_kinds(method, name, device, tmp_path):
    """Convolutions, embeddings and transposed weights, in folders; the configuration has each module's rank."""
    folders = [make(CASES[name], tmp_path / str(seed), seed).folder for seed in range(2)]
    drops = {} if method == "cat" else {"density": 0.5}
    configs = []
    for number, where in enumerate(("cpu", device)):
        out = tmp_path / f"out{number}"
        merge(folders, out, method=method, energy=0.8, dtype="float32", device=where, **drops)
        configs.append(json.loads((out / "adapter_config.json").read_text()))
    assert configs[0] == configs[1]
    core, other = (updates_of(tmp_path / f"out{number}") for number in range(2))
    assert distance(other, core) <= 5e-6


@pytest.mark.parametrize("method", ["cat", "ties"])
def test_the_command(method, three, tmp_path, capsys):
    folders = [str(one.write(tmp_path / str(i))) for i, one in enumerate(three)]
    words = ["adapters", "merge", *folders, "-m", method, "--energy", "0.9", "--json"]
    words += ["--density", "0.4"] if method == "ties" else []
    told = []
    for where in ("cpu", "torch:cpu"):
        assert main([*words, "-o", str(tmp_path / where), "--device", where]) == 0
        told.append(json.loads(capsys.readouterr().out))
    core, other = ({m["path"]: m["rank"] for m in report["modules"]} for report in told)
    assert other == core
    record = json.loads((tmp_path / "torch:cpu" / "carrick.json").read_text())
    assert record["energy"] == 0.9
    config = json.loads((tmp_path / "torch:cpu" / "adapter_config.json").read_text())
    assert {*config["rank_pattern"].values(), config["r"]} == set(core.values())
