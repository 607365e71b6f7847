"""`--device`: the torch path gives what the core gives, on the CPU here and on a GPU where there is one."""

from __future__ import annotations

import json

import pytest

from adapters.loading import updates_of
from adapters.merging import FILE, Q, distance, knots_oracle, lora, merged, oracle, result
from adapters.zoo import CASES, make, torch
from carrick.adapters import merge
from carrick.cli import main
from carrick.errors import CarrickError
from oracles.files import read_file, write_file

DEVICES = [
    "torch:cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]
WEIGHTS = [1.0, -0.5, 2.0]


@pytest.fixture(scope="module")
def three():
    return [lora(seed, rank=2 + seed, alpha=5, rslora=seed == 1) for seed in range(3)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("direction", ["columns", "rows"])
@pytest.mark.parametrize("method", ["linear", "ties", "magnitude_prune", "dare_linear", "dare_ties"])
def test_knots(method, direction, device, three):
    """The same masks, the same decisions: the oracle's."""
    own = {} if method == "linear" else {"density": 0.4}
    seed = {"seed": 3} if method.startswith("dare") else {}
    report = merged(
        three, method=f"knots_{method}", weights=WEIGHTS, device=device,
        parameters={"direction": direction, "lambda": 0.7}, **own, **seed,
    )  # fmt: skip
    want = knots_oracle(method, three, weights=WEIGHTS, direction=direction, lambda_=0.7, **own, **seed)
    assert distance(result(report), want) <= 2e-6


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("rank", [1, 4])
def test_sums_to_a_rank(rank, device, three):
    core, other = (merged(three, weights=WEIGHTS, rank=rank, device=d) for d in ("cpu", device))
    assert distance(result(other), result(core)) <= 5e-6
    for one, two in zip(core.modules, other.modules, strict=True):
        assert (one["path"], one["rank"]) == (two["path"], two["rank"])
        assert two["error"] == pytest.approx(one["error"], abs=2e-6)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["embedding", "convolutions", "gpt2", "patterns_rslora"])
def test_kinds(name, device, tmp_path):
    folders = [make(CASES[name], tmp_path / str(seed), seed).folder for seed in range(2)]
    for number, where in enumerate(("cpu", device)):
        merge(
            folders,
            tmp_path / f"out{number}",
            method="knots_ties",
            density=0.5,
            precision="float64",
            device=where,
        )
    core, other = (updates_of(tmp_path / f"out{number}") for number in range(2))
    assert distance(other, core) <= 2e-6


def sharded(adapter, folder):
    """A of every module in the first shard, B in the second."""
    whole = adapter.write(folder) / FILE
    tensors = read_file(whole)
    whole.unlink()
    weight_map = {}
    for number, letter in ((1, "A"), (2, "B")):
        name = f"adapter_model-{number:05d}-of-00002.safetensors"
        shard = {key: tensor for key, tensor in tensors.items() if f"lora_{letter}" in key}
        write_file(folder / name, shard)
        weight_map |= dict.fromkeys(shard, name)
    (folder / f"{FILE}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("device", DEVICES)
def test_factors_in_different_shards(device, three, tmp_path):
    folders = [sharded(one, tmp_path / str(i)) for i, one in enumerate(three)]
    merge(folders, tmp_path / "out", method="knots_ties", density=0.4, device=device)
    want = result(merged(three, method="knots_ties", density=0.4))
    assert distance(updates_of(tmp_path / "out"), want) <= 2e-6


def test_the_report_and_the_file_are_those_of_the_core(three, tmp_path):
    reports = [
        merged(three, method="knots_ties", density=0.4, device=device) for device in ("cpu", "torch:cpu")
    ]
    assert reports[0].config == reports[1].config
    assert reports[0].state_dict.keys() == reports[1].state_dict.keys()
    folders = [str(one.write(tmp_path / str(i))) for i, one in enumerate(three)]
    words = [
        "adapters",
        "merge",
        *folders,
        "-o",
        str(tmp_path / "out"),
        "-m",
        "knots_ties",
        "--density",
        "0.4",
    ]
    assert main([*words, "--device", "torch:cpu", "--json"]) == 0
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config == reports[0].config
    assert distance(updates_of(tmp_path / "out"), result(reports[0])) <= 1e-6


@pytest.mark.parametrize("device", DEVICES)
def test_zeros(device):
    """A module of zeros keeps one zero rank, which PEFT can load."""
    adapters = [lora(seed) for seed in range(2)]
    for one in adapters:
        a, b = one.factors[Q.format(0)]
        one.factors[Q.format(0)] = (a, 0 * b)
    core, other = (merged(adapters, method="knots_ties", density=0.5, device=d) for d in ("cpu", device))
    assert core.config == other.config
    assert not result(other)[Q.format(0)].any()
    assert distance(result(other), result(core)) <= 1e-6


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"device": "gpu", "method": "knots_linear"}, "no device `gpu`; it is one of torch:cpu, cpu, cuda"),
        ({"device": "cuda:99", "method": "knots_linear"}, "cuda:99|GPU"),
        ({"device": "torch:cpu", "method": "layer_swap"}, "layer_swap"),
    ],
)
def test_what_no_device_does(options, words, three):
    with pytest.raises(CarrickError, match=words):
        merged(three[:2], **options)


def test_the_oracles_are_not_the_same_thing():
    """KnOTS is another merge than TIES on updates: a mix-up would show."""
    adapters = [lora(seed) for seed in range(3)]
    assert distance(knots_oracle("ties", adapters, density=0.4), oracle("ties", adapters, density=0.4)) > 0.1
