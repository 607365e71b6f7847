"""The output does not depend on how it was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import carrick
from carrick import _core
from methods import engine, harness
from oracles.estimate import assert_matches
from oracles.files import read_file, read_model, write_model
from safety.digests import digests
from safety.workload import cases

MIB = 2**20


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plans")
    for name, case in cases().items():
        (folder / name).mkdir()
        (folder / name / "plan.json").write_text(engine.plan_of(case, folder / name))
    return folder


@pytest.fixture(scope="module")
def reference(plans: Path) -> dict[str, str]:
    return digests(plans, {"threads": 1})


def test_the_reference_is_right(plans: Path) -> None:
    """Same bytes are worth something only if they are the right ones."""
    for name, case in cases().items():
        out = plans / f"right-{name}"
        engine.execute((plans / name / "plan.json").read_text(), out, threads=2)
        got = engine.read_output(out)
        for tensor, want in case.expected().items():
            assert_matches(got[tensor], want, f"{tensor} of {name}")


OPTIONS: list[dict[str, Any]] = [
    {"threads": 2},
    {"threads": 5},
    {"threads": 2, "tile": 65536},
    {"threads": 5, "tile": 131072},
    {"threads": 1, "tile": 262144},
    {"threads": 2, "memory": 64 * MIB},
    {"threads": 2, "memory": 1024 * MIB},
    {"threads": 2, "read": "pread"},
    {"threads": 2, "read": "mmap"},
    {"threads": 5, "tile": 65536, "memory": 64 * MIB, "read": "mmap"},
]


@pytest.mark.parametrize(
    "options", OPTIONS, ids=lambda options: "-".join(f"{k}={v}" for k, v in options.items())
)
def test_execution_options(plans: Path, reference: dict[str, str], options: dict[str, Any]) -> None:
    assert digests(plans, options) == reference


@pytest.mark.parametrize("level", ["scalar", "avx2", "avx512"])
def test_instruction_sets(plans: Path, reference: dict[str, str], level: str) -> None:
    if level not in _core.simd_levels():
        pytest.skip(f"this processor has no {level}")
    script = Path(__file__).parent / "digests.py"
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


@pytest.mark.parametrize("method", ["ties", "ties_reference", "dare_ties", "slerp"])
def test_shard_sizes(method: str, tmp_path: Path) -> None:
    """Tensors' bytes are the same in however many files they end up."""
    config = harness.config_of(cases()[method], tmp_path)
    outputs = []
    for i, size in enumerate(["5GB", "700kB", 1]):
        carrick.merge(config, tmp_path / f"out-{i}", shard_size=size, seed=42)
        outputs.append({name: x.tobytes() for name, x in read_model(tmp_path / f"out-{i}").items()})
    assert outputs[0] == outputs[1] == outputs[2]
    shards = [len(list((tmp_path / f"out-{i}").glob("*.safetensors"))) for i in range(3)]
    assert shards[0] == 1
    assert shards[0] < shards[1] < shards[2]


def test_shards_of_the_inputs(tmp_path: Path) -> None:
    case = cases()["ties_reference"]
    outputs = [
        {name: x.tobytes() for name, x in harness.run(case, tmp_path / "run", shards=n).items()}
        for n in (1, 3)
    ]
    assert outputs[0] == outputs[1]


def checksum(data: bytes) -> str:
    """XXH3-128 over the XXH3-128 digests (16 bytes, little endian) of pieces of 65536 bytes."""
    xxhash = pytest.importorskip("xxhash")
    pieces = [xxhash.xxh3_128_intdigest(data[i : i + 65536]) for i in range(0, len(data), 65536)]
    digest: str = xxhash.xxh3_128_hexdigest(b"".join(piece.to_bytes(16, "little") for piece in pieces))
    return digest


def test_the_record_of_checksums_is_of_the_bytes_written(tmp_path: Path) -> None:
    plan = engine.plan_of(cases()["ties"], tmp_path)
    report = engine.execute(plan, tmp_path / "out", threads=2)
    got: dict[str, Any] = {}
    for path in (tmp_path / "out").glob("*.safetensors"):
        got |= read_file(path)
    assert len(report["tensors"]) == len(got)
    for entry in report["tensors"]:
        assert entry["checksum"] == checksum(got[entry["name"]].tobytes()), entry["name"]


def test_one_file_as_a_model(tmp_path: Path) -> None:
    """A bare .safetensors file and the folder that holds it are the same input."""
    case = cases()["linear"]
    folders = [write_model(tmp_path / f"m{i}", tensors) for i, tensors in enumerate(case.models)]
    results = []
    for suffix in ("", "model.safetensors"):
        models = [
            {"model": str(folder / suffix), "parameters": p}
            for folder, p in zip(folders, case.parameters, strict=True)
        ]
        out = tmp_path / f"out{suffix}"
        carrick.merge({"merge_method": "linear", "models": models}, out)
        results.append((out / "model.safetensors").read_bytes())
    assert results[0] == results[1]
