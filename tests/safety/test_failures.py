"""Disks that fill up and files that shrink: one clear error, and nothing that looks like a model."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from carrick import _core
from methods import engine
from methods.case import Case
from safety.large import ties_config
from safety.stopped import loads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 2**20


def test_an_input_changed_since_the_plan(tmp_path: Path) -> None:
    config = ties_config(tmp_path, {"w": 1 << 20})
    plan = carrick.plan(config)
    with (tmp_path / "m1" / "model.safetensors").open("r+b") as file:
        file.truncate(2 * MIB // 2)
    with pytest.raises(carrick.CarrickError, match=r"m1.model\.safetensors"):
        carrick.merge(None, tmp_path / "out", plan=plan)
    assert not (tmp_path / "out").exists()
    assert not loads(tmp_path / "out.carrick-partial")


def test_an_input_shrinks_during_the_run(tmp_path: Path) -> None:
    """On the path of positional reads: an error that names the file, never a signal."""
    config = ties_config(tmp_path, {f"t{i}": 1 << 23 for i in range(12)})
    victim = tmp_path / "m2" / "model.safetensors"
    calls = 0

    def shrink(_: object) -> None:
        nonlocal calls
        calls += 1
        os.truncate(victim, 3 * MIB)

    with pytest.raises((OSError, carrick.CarrickError), match=r"m2.model\.safetensors"):
        carrick.merge(config, tmp_path / "out", read="pread", threads=1, progress=shrink)
    assert calls
    assert not (tmp_path / "out").exists()
    assert not loads(tmp_path / "out.carrick-partial")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_is_too_small_is_seen_by_the_plan(small_disk: Path, tmp_path: Path) -> None:
    config = ties_config(tmp_path, {f"t{i}": 1 << 20 for i in range(8)})
    with pytest.raises((OSError, carrick.CarrickError), match=r"(?i)space|disk"):
        carrick.merge(config, small_disk / "out")
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_during_the_run(small_disk: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    models = [{f"t{i}": rng.standard_normal(1 << 20).astype(np.float32) for i in range(4)} for _ in range(2)]
    plan = engine.plan_of(Case("linear", models, None, [{"weight": 1.0}] * 2), tmp_path)
    with pytest.raises(OSError, match=r"(?i)space|full") as caught:
        _core.execute(plan, str(small_disk / "out.carrick-partial"), json.dumps({}), None)
    assert caught.value.errno == errno.ENOSPC
    assert not loads(small_disk / "out.carrick-partial")


FSIZE = """
import resource, sys, carrick, json
import carrick.merge
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, 4 << 20))
try:
    carrick.merge(json.loads(sys.argv[1]), sys.argv[2])
except OSError as error:
    print(error.errno)
"""


def test_a_limit_on_the_size_of_files(tmp_path: Path) -> None:
    config: dict[str, Any] = ties_config(tmp_path, {f"t{i}": 1 << 20 for i in range(8)})
    arguments = [sys.executable, "-c", FSIZE, json.dumps(config), str(tmp_path / "out")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(errno.EFBIG), done.stderr
    assert not (tmp_path / "out").exists()
    assert not loads(tmp_path / "out.carrick-partial")
    carrick.merge(config, tmp_path / "out")
