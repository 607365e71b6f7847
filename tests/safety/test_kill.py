"""SIGKILL at random moments: nothing half-made, and the next run ends in the same bytes."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

import carrick
from safety.digests import digest
from safety.large import ties_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KILLS = 22

SCRIPT = """
import json, sys, carrick
config, out = json.loads(sys.argv[1]), sys.argv[2]
import carrick.merge
print("ready", flush=True)
carrick.merge(config, out, threads=2)
print("done", flush=True)
"""


@contextmanager
def running(config: dict[str, Any], out: Path) -> Iterator[subprocess.Popen[str]]:
    """A merge in a process of its own, which has just begun."""
    arguments = [sys.executable, "-c", SCRIPT, json.dumps(config), str(out)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process


def loadable(folder: Path) -> list[str]:
    """What a loader of models would take for weights: any .safetensors file, and its index."""
    if not folder.exists():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.name.endswith((".safetensors", ".index.json"))
    )


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": 1 << 20 for i in range(16)}
    config = ties_config(tmp_path, tensors)
    carrick.merge(config, tmp_path / "whole")
    whole = digest(tmp_path / "whole")

    with running(config, tmp_path / "timed") as process:
        begun = time.perf_counter()
        assert process.wait() == 0
        span = time.perf_counter() - begun

    rng = random.Random(1)
    killed = attempts = 0
    while killed < KILLS:
        attempts += 1
        assert attempts < 4 * KILLS, f"only {killed} of {attempts} runs were caught alive"
        out = tmp_path / f"out-{attempts}"
        with running(config, out) as process:
            time.sleep(rng.uniform(0, span))
            process.kill()
            killed += process.wait() != 0
        if not out.exists():
            partial = out.with_name(out.name + ".carrick-partial")
            # Only the instant between the naming of the shards and the folder's rename may show them: all done.
            assert loadable(partial) == [] or digest(partial) == whole, f"{attempts}: {loadable(partial)}"
            carrick.merge(config, out)
        assert digest(out) == whole, f"kill {attempts}"
        assert (out / "carrick.json").exists()
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(f"{out.name}.")]
        assert left == [], f"kill {attempts}"
        shutil.rmtree(out)
