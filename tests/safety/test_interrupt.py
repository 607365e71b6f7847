"""Ctrl-C at random moments: a message, exit code 130, and the next run goes on."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from safety.stopped import Stopped, one_model, two_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("config", [one_model, two_documents])
def test_interrupted_at_random_moments(config: Callable[[Path], Any], tmp_path: Path) -> None:
    merge = Stopped.of(tmp_path, config(tmp_path), "--shard-size", "5MB")
    for code, err in merge.stop(tmp_path, 6, lambda process: process.send_signal(signal.SIGINT)):
        assert code == 130, err
        assert "error: interrupted" in err
        assert "Traceback" not in err
