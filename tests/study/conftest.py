"""One quick run of the study of languages for all tests that look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study import StudyRun

NEEDED = ("torch", "transformers", "peft", "trl", "datasets", "sklearn", "scipy", "matplotlib")


@pytest.fixture(scope="session")
def quick_languages(tmp_path_factory: pytest.TempPathFactory) -> StudyRun:
    """``carrick study run languages --quick``; its folder is not to be changed."""
    for name in NEEDED:
        pytest.importorskip(name)
    from carrick.study import run_study  # noqa: PLC0415

    folder: Path = tmp_path_factory.mktemp("studies") / "languages"
    return run_study("languages", folder, quick=True)
