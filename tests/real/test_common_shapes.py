"""The configurations that are common in the wild merge unchanged, and as mergekit merges them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ruamel.yaml import YAML

import carrick
from config.test_shapes import SHAPES
from oracles.files import read_model

if TYPE_CHECKING:
    from pathlib import Path

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

RANDOM = ("dare_ties", "della_linear")
NAMES = re.compile(r"(?:model:|base_model:) *([\w./-]+)")
# Of what stands after the layers mergekit takes a gradient's first value, Carrick its last.
AFTER = ("lm_head.weight", "model.norm.weight")
# What speaks of the numbers alone, for the comparison in float32, or needs a tokenizer.
OF_TYPES = re.compile(r"^(?:dtype|out_dtype|tokenizer_source):.*\n", re.MULTILINE)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny models of 32 layers under every name that the configurations use, relative to one folder."""
    root = tmp_path_factory.mktemp("library")
    config = transformers.LlamaConfig(
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=32,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=40,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    base = transformers.LlamaForCausalLM(config)
    names = sorted({name for text in SHAPES.values() for name in NAMES.findall(text)})
    for seed, name in enumerate(names):
        torch.manual_seed(seed + 1)
        model = transformers.LlamaForCausalLM(config)
        with torch.no_grad():
            for own, origin in zip(model.parameters(), base.parameters(), strict=True):
                own.copy_(origin + 0.1 * torch.randn_like(origin))
        model.save_pretrained(root / name)
    return root


@pytest.mark.parametrize("name", SHAPES)
def test_a_common_shape_merges_unchanged(
    name: str, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(library)
    report = carrick.merge(written(library / f"{name}.yml", SHAPES[name]), tmp_path / "out")
    merged = read_model(tmp_path / "out")
    layers = 40 if name == "passthrough" else 32
    assert len(merged) == report.tensors == 9 * layers + 3
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert loaded.config.num_hidden_layers == layers
    assert bool(torch.isfinite(loaded(torch.arange(6)[None]).logits).all())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # mergekit asks for numpy.core
@pytest.mark.parametrize("name", [name for name in SHAPES if name not in RANDOM])
def test_a_common_shape_gives_what_mergekit_gives(
    name: str, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mergekit")
    from mergekit.config import MergeConfiguration  # noqa: PLC0415
    from mergekit.merge import run_merge  # noqa: PLC0415
    from mergekit.options import MergeOptions  # noqa: PLC0415

    monkeypatch.chdir(library)
    text = OF_TYPES.sub("", SHAPES[name]).rstrip() + "\ndtype: float32\n"
    carrick.merge(written(library / f"{name}-32.yml", text), tmp_path / "out")
    theirs = MergeConfiguration.model_validate(YAML(typ="safe").load(text))
    options = MergeOptions(allow_crimes=True, quiet=True, write_model_card=False, copy_tokenizer=False)
    run_merge(theirs, str(tmp_path / "theirs"), options)
    found, wanted = read_model(tmp_path / "out"), read_model(tmp_path / "theirs")
    assert set(found) == set(wanted)
    for tensor in set(found) - set(AFTER if name == "ties" else ()):
        np.testing.assert_allclose(found[tensor], wanted[tensor], rtol=2e-5, atol=2e-6, err_msg=tensor)


def written(path: Path, text: str) -> Path:
    """Write a configuration beside the models that it names."""
    path.write_text(text)
    return path
