"""SIGKILL at random moments: nothing half-made, and the next run ends in the same bytes."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

import pytest

from safety.stopped import Stopped, one_model, two_documents

if TYPE_CHECKING:
    from pathlib import Path


def kill(merge: Stopped, folder: Path, kills: int) -> None:
    rng = random.Random(1)
    killed = attempts = 0
    while killed < kills:
        attempts += 1
        assert attempts < 4 * kills, f"only {killed} of {attempts} runs were caught alive"
        out = folder / f"out-{attempts}"
        with merge.running(out) as process:
            time.sleep(rng.uniform(0, merge.seconds))
            process.kill()
            killed += process.wait() != 0
        merge.finish(out, killed=True)


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    kill(Stopped.of(tmp_path, one_model(tmp_path)), tmp_path, 22)


@pytest.mark.slow
def test_killed_among_shards_and_documents(tmp_path: Path) -> None:
    kill(Stopped.of(tmp_path, two_documents(tmp_path), "--shard-size", "5MB"), tmp_path, 10)
