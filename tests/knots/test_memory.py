"""Updates that do not fit the memory side by side, under a hard limit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from oracles.files import read_model, write_model
from oracles.knots_dense import knots_ties
from safety.test_memory import SCRIPT

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
BUDGET = 96 * MIB
SHAPE, MODELS = (192, 20000), 8
# A process keeps some of what it has freed between the stages.
LIMIT = BUDGET * 3 // 2


def write(folder: Path, seed: int, base: dict[str, Any] | None = None) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    # Directions of very different size, so that they are told apart.
    left = rng.normal(size=(SHAPE[0], SHAPE[0])) * 0.97 ** np.arange(SHAPE[0])
    change = left @ rng.normal(size=(SHAPE[0], SHAPE[1]))
    tensors = {"down.weight": ((0 if base is None else base["down.weight"]) + change).astype("f4")}
    write_model(folder, tensors)
    return tensors


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_updates_side_by_side_larger_than_the_budget(tmp_path: Path) -> None:
    assert MODELS * SHAPE[0] * SHAPE[1] * 4 > BUDGET
    assert MODELS * SHAPE[0] * SHAPE[1] * 8 > LIMIT
    base = write(tmp_path / "base", 0)
    tuned = [write(tmp_path / f"tuned{number}", number + 1, base) for number in range(MODELS)]
    config = {
        "merge_method": "knots_ties",
        "base_model": str(tmp_path / "base"),
        "parameters": {"density": 0.3},
        "models": [{"model": str(tmp_path / f"tuned{number}")} for number in range(MODELS)],
    }
    script = SCRIPT.replace("before_data + budget", f"before_data + {LIMIT}")
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(config), str(tmp_path / "out"), str(BUDGET), "1"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    assert measured["grown"] < BUDGET, f"{measured['grown'] / MIB:.1f} MiB"
    found = read_model(tmp_path / "out")
    updates = {name: [(model[name] - base[name]).astype("f8") for model in tuned] for name in base}
    wanted = knots_ties(updates, density=0.3)
    gap = sum(np.linalg.norm(found[name].astype("f8") - base[name] - wanted[name]) ** 2 for name in base)
    # Entries at the threshold or with a vote near zero may fall on either side.
    assert np.sqrt(gap / sum(np.linalg.norm(wanted[name]) ** 2 for name in base)) < 1e-3
