"""SIGKILL at random moments: nothing half-made, and the next run ends in the same bytes."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from safety.stopped import Stopped, one_model, two_documents

if TYPE_CHECKING:
    from pathlib import Path


def kill(merge: Stopped, folder: Path, kills: int) -> None:
    for code, _err in merge.stop(folder, kills, subprocess.Popen.kill, killed=True):
        assert code != 0


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    kill(Stopped.of(tmp_path, one_model(tmp_path)), tmp_path, 22)


@pytest.mark.slow
def test_killed_among_shards_and_documents(tmp_path: Path) -> None:
    kill(Stopped.of(tmp_path, two_documents(tmp_path), "--shard-size", "5MB"), tmp_path, 10)
