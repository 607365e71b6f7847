"""SIGKILL at random moments: nothing half-made, and the next run ends in the same bytes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

import carrick
from safety.digests import digest
from safety.large import ties_config

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 24

SCRIPT = """
import json, sys, carrick
config, out = json.loads(sys.argv[1]), sys.argv[2]
import carrick.merge
print("ready", flush=True)
carrick.merge(config, out, threads=2)
print("done", flush=True)
"""


def start(config: dict[str, Any], out: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, json.dumps(config), str(out)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def loadable(folder: Path) -> list[str]:
    """What a loader of models would take for weights: any .safetensors file, and its index."""
    if not folder.exists():
        return []
    return sorted(
        path.name for path in folder.iterdir() if path.name.endswith((".safetensors", ".index.json"))
    )


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    tensors = {f"model.layers.{i}.mlp.up_proj.weight": 1 << 20 for i in range(12)}
    config = ties_config(tmp_path, tensors)
    carrick.merge(config, tmp_path / "whole")
    whole = digest(tmp_path / "whole")

    process = start(config, tmp_path / "timed")
    begun = time.perf_counter()
    assert process.wait() == 0
    span = time.perf_counter() - begun

    rng = random.Random(1)
    killed = 0
    for i in range(KILLS):
        out = tmp_path / f"out-{i}"
        process = start(config, out)
        time.sleep(rng.uniform(0, span))
        process.kill()
        ended_by_itself = process.wait() == 0
        killed += not ended_by_itself
        if not out.exists():
            partial = out.with_name(out.name + ".carrick-partial")
            assert loadable(partial) == [], f"kill {i}: {loadable(partial)} in the partial folder"
            carrick.merge(config, out)
        assert digest(out) == whole, f"kill {i}"
        assert (out / "carrick.json").exists()
        left = [path.name for path in tmp_path.iterdir() if path.name.startswith(f"{out.name}.")]
        assert left == [], f"kill {i}"
    assert killed >= 20
