"""Updates that do not fit the memory side by side, under a hard limit."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from carrick.plan import estimate_of
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


def measure(config: dict[str, Any], out: Path, budget: int, limit: int | None) -> int:
    """Merge in a process of its own and return by how much its anonymous memory grew."""
    script = SCRIPT.replace("before_data + budget", f"before_data + {limit}")
    arguments = [json.dumps(config), str(out), str(budget), str(int(limit is not None))]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    grown: int = json.loads(done.stdout)["grown"]
    return grown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")
def test_one_module_after_another_takes_no_more_than_planned(tmp_path: Path) -> None:
    """What the allocator keeps of one module may not add to the next one's."""
    rng = np.random.default_rng(0)
    # A name's number is its layer: matrices outside layers have no basis.
    shapes = {f"layers.{number}.weight": (1400, 600 if number % 2 else 1100) for number in range(6)}
    models = {name: tmp_path / name for name in ("base", "tuned0", "tuned1", "tuned2")}
    for folder in models.values():
        write_model(folder, {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()})
    config = {
        "merge_method": "knots_ties",
        "base_model": str(models.pop("base")),
        "parameters": {"density": 0.3},
        "models": [{"model": str(folder)} for folder in models.values()],
    }
    planned = estimate_of(carrick.plan(config), {"threads": 2}).peak_bytes
    grown = measure(config, tmp_path / "out", 1 << 30, None)
    assert grown < planned, f"{grown / MIB:.1f} MiB, planned {planned / MIB:.1f}"


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
    grown = measure(config, tmp_path / "out", BUDGET, LIMIT)
    assert grown < BUDGET, f"{grown / MIB:.1f} MiB"
    found = read_model(tmp_path / "out")
    updates = {name: [(model[name] - base[name]).astype("f8") for model in tuned] for name in base}
    wanted = knots_ties(updates, density=0.3)
    gap = sum(np.linalg.norm(found[name].astype("f8") - base[name] - wanted[name]) ** 2 for name in base)
    # Entries at the threshold or with a vote near zero may fall on either side.
    assert np.sqrt(gap / sum(np.linalg.norm(wanted[name]) ** 2 for name in base)) < 1e-3
