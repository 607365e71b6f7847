"""The bytes of an applied adapter depend on nothing but the inputs; interrupted runs end in the same ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import carrick
from adapters.handmade import Handmade
from carrick import _core
from oracles.files import read_model, write_model
from safety.digests import digest, digests

MIB = 1 << 20
RANK = 13


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A base of two shards and an adapter of every kind: odd sizes, several tiles, each way round."""
    root = tmp_path_factory.mktemp("pair")
    rng = np.random.default_rng(0)

    def normal(*shape, dtype=np.float32):
        return (0.05 * rng.standard_normal(shape)).astype(dtype)

    base = {
        "wte.weight": normal(1999, 333),
        "h.0.q.weight": normal(577, 1031, dtype=np.float16),
        "h.0.q.bias": normal(577),
        "h.0.fc.weight": normal(257, 2051),
        "h.0.conv.weight": normal(65, 33, 3, 5),
        "h.0.dora.weight": normal(301, 1027),
        "norm.weight": normal(577),
        "emb.weight": normal(1203, 77),
        "double.weight": normal(101, 1009, dtype=np.float64),
    }
    write_model(root / "base", base, shards=2)
    plain = ["h.0.q", "h.0.fc", "double"]
    sizes = {"h.0.q": (577, 1031), "h.0.fc": (2051, 257), "double": (101, 1009)}
    factors = {path: (normal(RANK, sizes[path][1]), normal(sizes[path][0], RANK)) for path in plain}
    more = {
        "wte.lora_embedding_A": normal(RANK, 1999),
        "wte.lora_embedding_B": normal(333, RANK),
        "h.0.conv.lora_A.weight": normal(RANK, 33, 3, 5),
        "h.0.conv.lora_B.weight": normal(65, RANK, 1, 1),
        "norm.weight": normal(577),
        "emb.token_adapter.trainable_tokens_delta": normal(3, 77),
    }
    config = {
        "r": RANK,
        "lora_alpha": 7,
        "modules_to_save": ["norm"],
        "trainable_token_indices": {"emb": [1202, 0, 600]},
    }
    Handmade(factors, config, more).write(root / "a")
    dora = {
        "h.0.dora.lora_magnitude_vector": np.abs(normal(301)) + 1,
        "h.0.dora.lora_A.weight": normal(5, 1027),
        "h.0.dora.lora_B.weight": normal(301, 5),
    }
    Handmade({}, {"r": 5, "lora_alpha": 5, "use_dora": True}, dora).write(root / "b")
    return root


def words(pair):
    return [f"{pair / 'a'}:0.75", str(pair / "b")]


@pytest.fixture(scope="module")
def plans(pair, tmp_path_factory):
    """The application itself, and merges of which its model is an input."""
    folder = tmp_path_factory.mktemp("plans")
    model = f"{pair / 'base'}+{words(pair)[0]}"
    other = f"{pair / 'base'}+{pair / 'b'}"
    configs = {
        "apply": {"merge_method": "passthrough", "models": [{"model": f"{model}+{pair / 'b'}"}]},
        "ties": {
            "merge_method": "ties",
            "base_model": str(pair / "base"),
            "parameters": {"weight": 0.7, "density": 0.3},
            "models": [{"model": model}, {"model": other}],
        },
        "stock": {
            "merge_method": "model_stock",
            "base_model": str(pair / "base"),
            "models": [{"model": model}, {"model": other}],
        },
    }
    for name, config in configs.items():
        (folder / name).mkdir()
        plan = carrick.plan(config, shard_size="keep", seed=3)
        (folder / name / "plan.json").write_text(plan.to_json())
    return folder


@pytest.fixture(scope="module")
def reference(plans):
    return digests(plans, {"threads": 1})


OPTIONS = [
    {"threads": 2},
    {"threads": 5, "tile": 65536},
    {"threads": 1, "tile": 262144},
    {"threads": 2, "memory": 64 * MIB},
    {"threads": 2, "read": "mmap"},
    {"threads": 5, "tile": 65536, "memory": 64 * MIB, "read": "pread"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))
def test_execution_options(options, plans, reference):
    assert digests(plans, options) == reference


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_instruction_sets(level, plans, reference):
    if level not in _core.simd_levels():
        pytest.skip(f"this processor has no {level}")
    script = Path(__file__).parents[1] / "safety" / "digests.py"
    done = subprocess.run(
        [sys.executable, str(script), str(plans), json.dumps({"threads": 2})],
        env=os.environ | {"CARRICK_SIMD": level},
        capture_output=True,
        text=True,
        check=True,
    )
    got = json.loads(done.stdout)
    assert got.pop("simd") == level
    assert got == reference


def test_shards_are_those_of_the_base_and_sizes_change_no_tensor(pair, tmp_path):
    results = {}
    for size in (None, "5GB", "700kB"):
        out = tmp_path / str(size)
        carrick.adapters.apply(pair / "base", words(pair), out, shard_size=size)
        results[size] = {name: tensor.tobytes() for name, tensor in read_model(out).items()}
        index = out / "model.safetensors.index.json"
        if size is None:
            own = json.loads((pair / "base" / "model.safetensors.index.json").read_text())["weight_map"]
            assert json.loads(index.read_text())["weight_map"] == own
    assert results[None] == results["5GB"] == results["700kB"]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A base and an adapter that take long enough to be interrupted."""
    root = tmp_path_factory.mktemp("large")
    rng = np.random.default_rng(1)
    block = (0.02 * rng.standard_normal((2048, 1024))).astype(np.float32)
    (root / "base").mkdir()
    save_file(
        {f"h.{n}.q.weight": block + np.float32(n) for n in range(24)}, root / "base" / "model.safetensors"
    )
    (root / "base" / "config.json").write_text('{"model_type": "llama"}')
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((320, 1024), (2048, 320)))
    Handmade({f"h.{n}.q": (a, b) for n in range(24)}, {"r": 320, "lora_alpha": 40}).write(root / "adapter")
    return root


@pytest.fixture(scope="module")
def whole(large):
    """Digest of what a run that nothing interrupts makes of it."""
    carrick.adapters.apply(large / "base", large / "adapter", large / "whole", dtype="bfloat16")
    return digest(large / "whole")


def test_an_interrupted_run_goes_on(large, whole, tmp_path):
    """As Ctrl-C does after the first report; the same call then ends in the same bytes."""

    def stop(_):
        raise KeyboardInterrupt

    arguments = (large / "base", large / "adapter", tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        carrick.adapters.apply(*arguments, dtype="bfloat16", threads=1, progress=stop)
    assert not (tmp_path / "out").exists()
    carrick.adapters.apply(*arguments, dtype="bfloat16")
    assert digest(tmp_path / "out") == whole


SCRIPT = """
import sys, carrick
base, adapter, out = sys.argv[1:]
carrick.adapters.apply(base, adapter, out, dtype="bfloat16", threads=1)
"""


def test_killed_in_the_middle(large, whole, tmp_path):
    """SIGKILL once tensors are finished: nothing looks like a model, and what is finished is kept."""
    out = tmp_path / "out"
    journal = tmp_path / "out.carrick-partial" / "journal.jsonl"
    words = [str(large / "base"), str(large / "adapter"), str(out)]
    with subprocess.Popen([sys.executable, "-c", SCRIPT, *words]) as process:
        until = time.monotonic() + 60
        while time.monotonic() < until and process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b"\n") > 2:
                break
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it was done before it could be killed"
    assert not out.exists()
    assert not list(journal.parent.glob("*.safetensors"))
    report = carrick.adapters.apply(*words[:2], out, dtype="bfloat16", threads=2)
    assert report.resumed > 0
    assert digest(out) == whole
    assert not journal.parent.exists()
