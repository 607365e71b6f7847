"""The wheel as a user gets it: installed into a clean environment on a machine without Rust, where it merges."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[2]
BF16 = np.dtype(ml_dtypes.bfloat16)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("cargo") is None:
        pytest.skip("no Rust here to build a wheel with")
    out = tmp_path_factory.mktemp("dist")
    maturin = Path(sys.executable).parent / "maturin"
    command = [maturin, "build", "--release", "--locked", "--quiet", "--out", out]
    with (ROOT / "pyproject.toml").open() as alone:
        fcntl.flock(alone, fcntl.LOCK_EX)  # another worker would build in the same folder
        subprocess.run(command, cwd=ROOT, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:", wheel]
    subprocess.run(install, check=True, env=without_rust(folder))
    return folder


def without_rust(folder: Path) -> dict[str, str]:
    """The environment with no cargo, no rustc and nothing of this checkout on its paths."""
    kept = [
        p
        for p in os.environ["PATH"].split(os.pathsep)
        if not any((Path(p) / t).exists() for t in ("cargo", "rustc"))
    ]
    variables = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return variables | {"PATH": os.pathsep.join([str(folder / "bin"), *kept])}


def test_one_wheel_serves_every_python_from_3_11(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"carrick"}
    assert "carrick/_core.pyi" in names
    assert "carrick/py.typed" in names
    source = ROOT / "python"
    data = {str(file.relative_to(source)) for kind in ("*.yml", "*.yaml") for file in source.rglob(kind)}
    assert len(data) > 10  # the tasks of `carrick evaluate`, the recipes of `carrick study`
    assert data <= set(names)
    assert sum(name.endswith((".so", ".pyd")) for name in names) == 1


def test_it_merges_without_rust(installed: Path, tmp_path: Path) -> None:
    environment = without_rust(installed)
    assert shutil.which("cargo", path=environment["PATH"]) is None
    draw = np.random.default_rng(5)
    models = [draw.standard_normal((64, 48), dtype=np.float32).astype(BF16) for _ in range(2)]
    for name, weights in zip("ab", models, strict=True):
        (tmp_path / name).mkdir()
        save_file({"layer.weight": weights}, tmp_path / name / "model.safetensors")
        (tmp_path / name / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "config.yml").write_text(
        "merge_method: linear\nmodels:\n"
        "  - {model: a, parameters: {weight: 1}}\n  - {model: b, parameters: {weight: 3}}\n"
    )
    command = ["carrick", "merge", "config.yml", "merged", "--json"]
    finished = subprocess.run(
        command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert json.loads(finished.stdout)["tensors"] == 1

    data = (tmp_path / "merged" / "model.safetensors").read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    got = np.frombuffer(data[start:], BF16).reshape(64, 48)
    first, second = (model.astype(np.float64) for model in models)
    # All values are exact in float64, and the sum is exact enough that one rounding to bf16 settles it.
    want = ((first + 3 * second) / 4).astype(np.float32).astype(BF16)
    np.testing.assert_array_equal(got, want)


def test_the_core_is_light(installed: Path) -> None:
    listed = subprocess.run(
        [installed / "bin" / "python", "-m", "pip", "list", "--format", "json"],
        env=without_rust(installed),
        check=True,
        capture_output=True,
        text=True,
    )
    names = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert "carrick" in names
    assert not names & {"torch", "transformers", "peft", "scipy", "pandas"}
