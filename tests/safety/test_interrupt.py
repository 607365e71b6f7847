"""Ctrl-C at random moments: a message, exit code 130, and the next run goes on."""

from __future__ import annotations

import random
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from safety.stopped import Stopped, one_model, two_documents

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

INTERRUPTS = 6


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("config", [one_model, two_documents])
def test_interrupted_at_random_moments(config: Callable[[Path], Any], tmp_path: Path) -> None:
    merge = Stopped.of(tmp_path, config(tmp_path), "--shard-size", "5MB")
    rng = random.Random(2)
    interrupted = attempts = 0
    while interrupted < INTERRUPTS:
        attempts += 1
        assert attempts < 4 * INTERRUPTS, f"only {interrupted} of {attempts} runs were caught alive"
        out = tmp_path / f"out-{attempts}"
        with merge.running(out) as process:
            time.sleep(rng.uniform(0, merge.seconds))
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=30)
        if not out.exists():  # otherwise it was over already
            assert process.returncode == 130, err
            assert "Traceback" not in err
            assert "error: interrupted" in err
            interrupted += 1
        merge.finish(out)
