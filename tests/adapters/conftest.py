"""Adapters made by PEFT, each once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from adapters.zoo import CASES, Made, make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """An adapter by the name of its case; not to be changed."""
    known: dict[str, Made] = {}

    def get(name: str) -> Made:
        if name not in known:
            known[name] = make(CASES[name], tmp_path_factory.mktemp(name))
        return known[name]

    return get


@pytest.fixture
def adapter_folder(made: Callable[[str], Made], tmp_path: Path) -> Callable[[str], Path]:
    """A copy of an adapter, to be spoilt."""

    def copy(name: str = "linear") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file in made(name).folder.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        return folder

    return copy
