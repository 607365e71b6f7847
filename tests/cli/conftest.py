"""Tiny models on disk, and the command line as a function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  (annotations of dataclasses)
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from carrick.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HIDDEN, VOCABULARY, LAYERS = 8, 16, 3


@dataclass
class Answer:
    """What a command said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Models:
    """A base and two fine-tunes in one folder, with the files that stand beside weights."""

    root: Path
    tensors: dict[str, dict[str, NDArray[Any]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Path:
        return self.root / name

    def write(self, name: str, seed: int) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True)
        random = np.random.default_rng(seed)
        tensors = {
            key: random.standard_normal(shape, np.float32).astype(ml_dtypes.bfloat16)
            for key, shape in shapes().items()
        }
        self.tensors[name] = tensors
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
        config = {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "num_hidden_layers": LAYERS,
            "hidden_size": HIDDEN,
            "vocab_size": VOCABULARY,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2))
        for beside in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            (folder / beside).write_text(json.dumps({"from": name, "file": beside}))
        (folder / "merges.txt").write_text(f"{name}\n")
        return folder

    def config(self, name: str = "config.yml", **changes: Any) -> Path:
        """A linear merge of math and code with weights 0.25 and 0.75, or what `changes` make of it."""
        content = {
            "merge_method": "linear",
            "models": [
                {"model": str(self["math"]), "parameters": {"weight": 0.25}},
                {"model": str(self["code"]), "parameters": {"weight": 0.75}},
            ],
            **changes,
        }
        return self.text(json.dumps(content, indent=1), name)  # JSON is YAML

    def text(self, text: str, name: str = "config.yml") -> Path:
        path = self.root / name
        path.write_text(text)
        return path


def shapes() -> dict[str, tuple[int, ...]]:
    """Llama's names with sizes that fit in a few kilobytes."""
    found: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        found |= {
            f"{prefix}.self_attn.q_proj.weight": (HIDDEN, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": (HIDDEN, 2 * HIDDEN),
            f"{prefix}.input_layernorm.weight": (HIDDEN,),
        }
    return {**found, "model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


@pytest.fixture
def make_models() -> Callable[[Path], Models]:
    """A function that writes the three models into a folder."""

    def make(root: Path) -> Models:
        models = Models(root)
        for seed, name in enumerate(("base", "math", "code")):
            models.write(name, seed)
        return models

    return make


@pytest.fixture
def models(tmp_path: Path, make_models: Callable[[Path], Models]) -> Models:
    return make_models(tmp_path / "models")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "merged"


@pytest.fixture
def carrick(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """The command line in this process."""

    def run(*words: object) -> Answer:
        capfd.readouterr()
        code = main([str(word) for word in words])
        return Answer(code, *capfd.readouterr())

    return run


@pytest.fixture
def carrick_process(tmp_path: Path) -> Callable[..., Answer]:
    """The command line as its users start it."""

    def run(*words: object, **environment: str) -> Answer:
        done = subprocess.run(
            [sys.executable, "-m", "carrick", *map(str, words)],
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, **environment},
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run
