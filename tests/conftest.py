"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent
# Test modules import the oracles and harnesses beside them, whichever folder pytest was started in.
if str(TESTS) not in sys.path:
    sys.path.insert(0, str(TESTS))

settings.register_profile(
    "carrick", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow], max_examples=40
)
settings.register_profile(
    "long", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("CARRICK_HYPOTHESIS", "carrick"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material, at `../shared` from the root or at `CARRICK_SHARED`."""
    folder = Path(os.environ.get("CARRICK_SHARED", TESTS.parent.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference material: {folder} is not there (set CARRICK_SHARED)")
    return folder
