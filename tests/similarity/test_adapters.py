"""Adapters against dense float64 ΔW, of all kinds that PEFT writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

import carrick
from carrick.adapters import read
from carrick.checkpoints import LazyTensors
from carrick.similarity import factors as factors_module

from . import oracle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

MODULES = {
    "model.layers.0.self_attn.q_proj": (12, 8),
    "model.layers.0.mlp.down_proj": (8, 20),
    "model.layers.1.self_attn.q_proj": (12, 8),
}
PREFIX = "base_model.model."


def write(
    folder: Path,
    seed: int,
    modules: Mapping[str, tuple[int, int]] = MODULES,
    dtype: Any = np.float32,
    rank: int = 3,
    **config: Any,
) -> Path:
    random = np.random.default_rng(seed)
    folder.mkdir()
    tensors = {}
    for path, (out, into) in modules.items():
        tensors[f"{PREFIX}{path}.lora_A.weight"] = random.standard_normal((rank, into)).astype(dtype)
        tensors[f"{PREFIX}{path}.lora_B.weight"] = random.standard_normal((out, rank)).astype(dtype)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank + 1,
        "target_modules": ["q_proj"],
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def dense(folder: Path) -> dict[str, NDArray[np.float64]]:
    """ΔW of each module, from the files alone."""
    settings = json.loads((folder / "adapter_config.json").read_text())
    root = settings["r"] ** 0.5 if settings.get("use_rslora") else settings["r"]
    found = {}
    with carrick.open(folder / "adapter_model.safetensors") as tensors:
        for name in tensors:
            if name.endswith("lora_A.weight"):
                a, b = (np.asarray(tensors[name.replace("lora_A", f"lora_{f}")], np.float64) for f in "AB")
                path = name.removeprefix(PREFIX).removesuffix(".lora_A.weight")
                found[path] = settings["lora_alpha"] / root * (b @ a)
    return found


def rows(folders: list[Path], paths: list[str]) -> NDArray[np.float64]:
    every = [dense(folder) for folder in folders]
    size = {path: delta.size for held in every for path, delta in held.items()}
    return np.stack(
        [np.concatenate([held.get(p, np.zeros(size[p])).ravel() for p in paths]) for held in every]
    )


@given(
    seed=st.integers(0, 2**30),
    ranks=st.lists(st.integers(1, 30), min_size=2, max_size=4),
    dtype=st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16, np.float64]),
    rslora=st.booleans(),
)
def test_as_the_dense_updates(tmp_path_factory, seed, ranks, dtype, rslora):
    root = tmp_path_factory.mktemp("adapters")
    folders = [
        write(root / f"a{i}", seed + i, dtype=dtype, rank=rank, use_rslora=rslora)
        for i, rank in enumerate(ranks)
    ]
    found = carrick.similarity(folders, signs=True)
    paths = list(MODULES)
    for part, held in [(found.whole, paths), *((part, [part.name]) for part in found.by_tensor)]:
        vectors = rows(folders, held)
        assert part.elements == vectors.shape[1]
        np.testing.assert_allclose(part.norms, oracle.norms(vectors), rtol=1e-12)
        np.testing.assert_allclose(part.cosine, oracle.cosine(vectors), atol=1e-12)
        # float32 products may lose the sign of an entry that nearly cancels.
        np.testing.assert_allclose(
            part.sign_conflicts, oracle.sign_conflicts(vectors), atol=1.5 / vectors.shape[1]
        )


def test_blocks_do_not_show(tmp_path, monkeypatch):
    folders = [write(tmp_path / f"a{seed}", seed, dtype=np.float64) for seed in range(3)]
    expected = carrick.similarity(folders, signs=True)
    monkeypatch.setattr(factors_module, "_BLOCK", 300)
    found = carrick.similarity(folders, signs=True)
    np.testing.assert_allclose(found.whole.cosine, expected.whole.cosine, atol=1e-15)
    assert found.whole.sign_conflicts == expected.whole.sign_conflicts


def test_a_module_that_an_adapter_lacks_is_zero_there(tmp_path):
    some = dict(list(MODULES.items())[:2])
    folders = [write(tmp_path / "all", 0), write(tmp_path / "some", 1, some)]
    found = carrick.similarity(folders, signs=True)
    vectors = rows(folders, list(MODULES))
    np.testing.assert_allclose(found.whole.cosine, oracle.cosine(vectors), atol=1e-12)
    np.testing.assert_allclose(found.whole.sign_conflicts, oracle.sign_conflicts(vectors), atol=1e-2)
    last = found.by_tensor[-1]
    assert (last.name, last.cosine, last.norms[1]) == ("model.layers.1.self_attn.q_proj", [[1, 0], [0, 0]], 0)
    assert any("has no model.layers.1.self_attn.q_proj, which count as zero" in note for note in found.notes)


def test_a_zero_adapter(tmp_path):
    folders = [write(tmp_path / "one", 0), write(tmp_path / "zero", 1)]
    path = folders[1] / "adapter_model.safetensors"
    with carrick.open(path) as tensors:
        zeroed = {name: np.array(tensors[name]) * (".lora_A." in name) for name in tensors}
    save_file(zeroed, path)
    found = carrick.similarity(folders)
    assert found.whole.cosine == [[1, 0], [0, 0]]
    assert found.whole.norms[1] == 0
    assert "zero: its task vector is zero, and so are its cosines" in found.notes


def test_signs_are_not_counted_unless_asked_for(tmp_path):
    folders = [write(tmp_path / f"a{seed}", seed) for seed in range(2)]
    assert carrick.similarity(folders).whole.sign_conflicts is None


@pytest.mark.parametrize(
    "case", ["linear", "gpt2", "embedding", "patterns_rslora", "convolutions", "lora_bias"]
)
def test_what_peft_writes(made, tmp_path, case):
    """Against the reader's own factors, multiplied out; the second adapter has other numbers."""
    first = made(case).folder
    second = tmp_path / "second"
    second.mkdir()
    (second / "adapter_config.json").write_bytes((first / "adapter_config.json").read_bytes())
    random = np.random.default_rng(7)
    with carrick.open(first / "adapter_model.safetensors") as tensors:
        noise = {n: random.standard_normal(t.shape).astype(t.dtype) for n, t in tensors.items()}
    save_file(noise, second / "adapter_model.safetensors")
    vectors = np.stack([_multiplied_out(folder) for folder in (first, second)])
    found = carrick.similarity([first, second], signs=True)
    np.testing.assert_allclose(found.whole.norms, oracle.norms(vectors), rtol=1e-10)
    np.testing.assert_allclose(found.whole.cosine, oracle.cosine(vectors), atol=1e-10)
    assert found.whole.elements == vectors.shape[1]


def _multiplied_out(folder: Path) -> NDArray[np.float64]:
    adapter = read(folder)
    parts = []
    with LazyTensors(adapter.checkpoint) as held:
        for path in sorted(adapter.modules):
            module = adapter.modules[path]
            a, b = (np.asarray(held[name], np.float64) for name in (module.a_name, module.b_name))
            parts.append(module.scale * np.tensordot(b.reshape(b.shape[0], -1), a, axes=1).ravel())
            if module.bias is not None:
                parts.append(module.scale * np.asarray(held[adapter.keys[f"{path}.lora_B.bias"]], np.float64))
    return np.concatenate(parts)


def test_dora_is_refused(made):
    with pytest.raises(carrick.ConfigError, match="is DoRA"):
        carrick.similarity([made("dora").folder, made("dora").folder])


def test_whole_weights_are_said_to_be_left_out(made):
    found = carrick.similarity([made("saved").folder, made("linear").folder])
    assert any("whole weights and no LoRA" in note and "lm_head" in note for note in found.notes)


def test_different_bases_are_said(tmp_path):
    folders = [write(tmp_path / name, 0, base_model_name_or_path=name) for name in ("one", "two")]
    notes = carrick.similarity(folders).notes
    assert "the adapters belong to different bases (one, two)" in notes


def test_a_base_beside_adapters_is_not_read(tmp_path):
    folders = [write(tmp_path / f"a{seed}", seed) for seed in range(2)]
    notes = carrick.similarity(folders, "nowhere").notes
    assert any("nowhere is not read" in note for note in notes)


def test_different_shapes_are_refused_by_name(tmp_path):
    path = "model.layers.0.self_attn.q_proj"
    folders = [write(tmp_path / "one", 0), write(tmp_path / "two", 1, {path: (12, 9)})]
    with pytest.raises(
        carrick.FormatError, match=rf"two: {path} changes a weight of \[12, 9\].*\[12, 8\] in .*one"
    ):
        carrick.similarity(folders)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_refused_by_name(tmp_path, value):
    folders = [write(tmp_path / "one", 0), write(tmp_path / "two", 1)]
    path = folders[1] / "adapter_model.safetensors"
    with carrick.open(path) as tensors:
        held = {name: np.array(tensors[name]) for name in tensors}
    name = f"{PREFIX}model.layers.0.mlp.down_proj.lora_B.weight"
    held[name][3, 1] = value
    save_file(held, path)
    with pytest.raises(carrick.FormatError, match=r"two/adapter_model\.safetensors.*down_proj\.lora_B.*NaN"):
        carrick.similarity(folders)
