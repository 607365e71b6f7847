"""Tests are skipped without an extra, never for good: what they ask of Carrick itself exists."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
SOURCE = TESTS.parent / "python"
OWN = re.compile(r"""importorskip\(\s*["'](carrick[\w.]*)["']""")


def test_modules_of_our_own_that_tests_ask_for_exist() -> None:
    asked = {name: path for path in TESTS.rglob("*.py") for name in OWN.findall(path.read_text("utf-8"))}
    assert asked
    for name, path in asked.items():
        module = SOURCE.joinpath(*name.split("."))
        assert module.with_suffix(".py").is_file() or module.is_dir(), f"{path}: {name}"
