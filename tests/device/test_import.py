"""Torch is imported when it is used, and its absence is explained."""

from __future__ import annotations

import subprocess
import sys


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_torch_is_imported_only_when_it_is_used() -> None:
    loaded = "import carrick, carrick.torch, sys; print('torch' in sys.modules)"
    assert run(loaded) == "False"


def test_without_torch_the_error_says_how_to_get_it() -> None:
    code = """
import sys
sys.modules["torch"] = None
from carrick.errors import CarrickError
import carrick.torch
try:
    carrick.torch.merge_on_device
except CarrickError as error:
    print(error)
"""
    assert run(code) == (
        '`carrick.torch.merge_on_device` needs torch, which is not installed; pip install "carrick[torch]"'
    )
