"""Adapters made by PEFT, where PEFT is installed; checkpoints; the command line as a function."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carrick.cli import main
from oracles.files import write_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """An adapter of the zoo by the name of its case; not to be changed."""
    pytest.importorskip("peft")
    from adapters.zoo import CASES, make  # noqa: PLC0415

    known: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in known:
            known[name] = make(CASES[name], tmp_path_factory.mktemp(name))
        return known[name]

    return get


@pytest.fixture
def family(tmp_path: Path) -> Callable[[int], tuple[Path, list[Path]]]:
    """A function that writes a base and fine-tunes with two layers, an embedding and a norm."""

    def write(count: int) -> tuple[Path, list[Path]]:
        random = np.random.default_rng(count)
        names = ["embed_tokens.weight", "norm.weight"]
        names += [
            f"layers.{i}.{m}.weight" for i in range(2) for m in ("attn.q_proj", "attn.o_proj", "mlp.up_proj")
        ]
        folders = []
        for name in ["base", *(f"tuned{number}" for number in range(count))]:
            tensors = {key: random.standard_normal((4, 6)).astype(np.float32) for key in names}
            folders.append(write_model(tmp_path / name, tensors))
        return folders[0], folders[1:]

    return write


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`carrick similarity` in this process."""

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = main(["similarity", *(str(word) for word in words)])
        return Answer(code, *capfd.readouterr())

    return run
