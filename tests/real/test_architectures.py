"""Checkpoints from `save_pretrained`, merged, loaded by `from_pretrained`: nothing missing, same logits."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import carrick
from oracles import linear, slerp, ties
from oracles.estimate import assert_matches
from oracles.files import read_model, write_model
from real.zoo import KINDS, Kind, feed

if TYPE_CHECKING:
    from pathlib import Path

torch: Any = pytest.importorskip("torch")
transformers: Any = pytest.importorskip("transformers")
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture(scope="module", params=KINDS)
def family(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Kind, list[Path]]:
    """A base and two relatives, in several shards."""
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    config = getattr(transformers, kind.config)(**kind.options)
    torch.manual_seed(1)
    base = getattr(transformers, kind.model)(config).eval()
    # Fresh biases are zero and fresh norms one: give every tensor something to lose.
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    paths = []
    for seed in (None, 2, 3):
        if seed:
            torch.manual_seed(seed)
            with torch.no_grad():
                for parameter in base.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
        paths.append(folder / f"model-{seed}")
        base.save_pretrained(paths[-1], max_shard_size="30KB")
    assert len(list(paths[0].glob("*.safetensors"))) > 1
    return kind, paths


def merged_tensors(method: str, paths: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration and the oracle's estimates."""
    tensors = [read_model(path) for path in paths]
    weights = [0.7, 0.5]
    names = [str(path) for path in paths]
    if method == "linear":
        models = [
            {"model": name, "parameters": {"weight": w}}
            for name, w in zip(names, [0.2, *weights], strict=True)
        ]
        return {"models": models}, linear.merge(tensors, weight=[0.2, *weights])
    if method == "ties":
        models = [
            {"model": name, "parameters": {"weight": w, "density": 0.4}}
            for name, w in zip(names[1:], weights, strict=True)
        ]
        want = ties.merge(tensors[0], tensors[1:], weight=weights, density=[0.4, 0.4])
        return {"models": models, "base_model": names[0]}, want
    models = [{"model": name} for name in names[:2]]
    return (
        {"models": models, "base_model": names[0], "parameters": {"t": 0.4}},
        slerp.merge(tensors[0], tensors[1], t=0.4),
    )


@pytest.mark.parametrize("method", ["linear", "ties", "slerp"])
def test_merge_and_load(family: tuple[Kind, list[Path]], method: str, tmp_path: Path) -> None:
    kind, paths = family
    config, want = merged_tensors(method, paths)
    out = tmp_path / "merged"
    carrick.merge({"merge_method": method} | config, out, shard_size=30_000)
    got = read_model(out)
    assert set(got) == set(want)
    for name, tensor in got.items():
        assert_matches(tensor, want[name], name)

    model, info = getattr(transformers, kind.model).from_pretrained(out, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    model.eval()

    weights = {name: estimate.value.astype(np.float32) for name, estimate in want.items()}
    donor = json.loads((paths[0] / "config.json").read_text())
    oracle = getattr(transformers, kind.model).from_pretrained(
        write_model(tmp_path / "oracle", weights, config=donor)
    )
    oracle.eval()
    inputs = feed(kind, torch)
    with torch.no_grad():
        logits, expected = model(**inputs).logits, oracle(**inputs).logits
    assert expected.abs().max() > 1e-3
    assert torch.isfinite(logits).all()
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_config_and_shards(family: tuple[Kind, list[Path]], tmp_path: Path) -> None:
    kind, paths = family
    config, _ = merged_tensors("linear", paths)
    carrick.merge({"merge_method": "linear"} | config, tmp_path / "one")
    assert (tmp_path / "one" / "model.safetensors").exists()
    assert not (tmp_path / "one" / "model.safetensors.index.json").exists()
    written = json.loads((tmp_path / "one" / "config.json").read_text())
    original = json.loads((paths[0] / "config.json").read_text())
    assert written["architectures"] == original["architectures"] == [kind.model]
    assert {key: written[key] for key in original} == original
    assert ("lm_head.weight" in read_model(tmp_path / "one")) == ("lm_head.weight" in read_model(paths[0]))
