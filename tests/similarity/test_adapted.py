"""Checkpoints with adapters on them, against PEFT's own merge and dense float64; nothing of them is written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import carrick
from carrick.similarity import adapted as adapted_module
from oracles.files import read_model, write_file, write_model

from . import oracle
from .test_adapters import MODULES, PREFIX, dense, write

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from carrick.similarity import Likeness

Q, DOWN = "model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"
KINDS = (
    "linear", "gpt2", "gpt2_embedding", "embedding", "patterns_rslora", "convolutions", "convolutions_bias",
    "lora_bias", "bias_all", "saved", "tokens", "dora", "dora_convolutions",
)  # fmt: skip


def same(part: Likeness, vectors: NDArray[Any], tolerance: float = 1e-10) -> None:
    assert part.elements == vectors.shape[1]
    np.testing.assert_allclose(part.norms, oracle.norms(vectors), rtol=tolerance)
    np.testing.assert_allclose(part.cosine, oracle.cosine(vectors), atol=tolerance)


def base_of(folder: Path, dtype: Any = np.float32, seed: int = 9) -> Path:
    random = np.random.default_rng(seed)
    tensors = {
        f"{path}.weight": random.standard_normal(shape).astype(dtype) for path, shape in MODULES.items()
    }
    return write_model(folder, tensors | {"model.norm.weight": random.standard_normal(8).astype(dtype)})


@pytest.fixture
def world(tmp_path):
    """A base in bfloat16, two adapters, and a checkpoint that was trained from the base."""
    base = base_of(tmp_path / "base", ml_dtypes.bfloat16)
    random = np.random.default_rng(3)
    tuned = {
        name: (tensor.astype(np.float64) + 0.1 * random.standard_normal(tensor.shape)).astype(tensor.dtype)
        for name, tensor in read_model(base).items()
    }
    adapters = [write(tmp_path / name, seed, rank=2 + seed) for seed, name in enumerate(("en", "de"))]
    return base, adapters, write_model(tmp_path / "tuned", tuned)


@pytest.mark.parametrize("case", KINDS)
def test_as_peft_merges_it(made, tmp_path, case):
    """Every kind of adapter, beside a plain checkpoint; all of it in float64."""
    one = made(case)
    base = write_model(tmp_path / "base", one.base)
    floats = [name for name, tensor in one.base.items() if tensor.dtype.kind == "f"]
    random = np.random.default_rng(1)
    tuned = {name: one.base[name] + random.standard_normal(one.base[name].shape) for name in floats}
    write_model(tmp_path / "tuned", one.base | tuned)
    found = carrick.similarity([f"{base}+{one.folder}", tmp_path / "tuned"], base)
    vectors = oracle.of_checkpoints(one.base, [one.merged, tuned], floats)
    same(found.whole, vectors)
    np.testing.assert_allclose(
        found.whole.sign_conflicts, oracle.sign_conflicts(vectors), atol=2 / vectors.shape[1]
    )
    for part in found.by_tensor:
        same(part, oracle.of_checkpoints(one.base, [one.merged, tuned], [part.name]))
    assert found.kind == "checkpoints"
    assert found.models == [f"base+{one.folder.name}", "tuned"]


def test_what_adapters_add_is_not_rounded_beside_the_base(world):
    """bfloat16 weights, and updates of 1e-6 of them: in float32 base + ΔW − base would be noise."""
    base, adapters, _ = world
    weights = (1e-6, -2e-6)
    models = [f"{base}+{folder}:{weight}" for folder, weight in zip(adapters, weights, strict=True)]
    found = carrick.similarity(models, base)
    updates = [
        np.concatenate([weight * dense(folder)[path].ravel() for path in MODULES] + [np.zeros(8)])
        for folder, weight in zip(adapters, weights, strict=True)
    ]
    same(found.whole, np.stack(updates), 1e-12)
    assert found.whole.sign_conflicts == oracle.sign_conflicts(np.stack(updates)).tolist()
    assert found.models == ["base+en:1e-06", "base+de:-2e-06"]


def test_the_others_are_compared_as_they_were(world):
    """A tensor that one model's adapter changes counts the same for the others, whose differences are rounded once."""
    base, adapters, tuned = world
    before = carrick.similarity([tuned, tuned], base)
    after = carrick.similarity([tuned, f"{base}+{adapters[0]}", tuned], base)
    assert [part.name for part in after.by_tensor] == [part.name for part in before.by_tensor]
    for one, other in zip(before.by_tensor, after.by_tensor, strict=True):
        np.testing.assert_allclose([other.norms[0], other.norms[2]], one.norms, rtol=1e-14)
        assert other.cosine[0][2] == pytest.approx(1, abs=1e-14)
    vectors = oracle.of_checkpoints(read_model(base), [read_model(tuned)], [f"{Q}.weight"])[0]
    want = np.stack([vectors, dense(adapters[0])[Q].ravel(), vectors])
    same(next(part for part in after.by_tensor if part.name == f"{Q}.weight"), want, 1e-12)


def test_an_adapter_on_a_model_that_is_not_the_base(world):
    base, adapters, tuned = world
    found = carrick.similarity([f"{tuned}+{adapters[0]}:0.5", tuned], base)
    before, after = ({n: t.astype(np.float64) for n, t in read_model(f).items()} for f in (base, tuned))
    put_on = after | {
        f"{path}.weight": after[f"{path}.weight"] + 0.5 * u for path, u in dense(adapters[0]).items()
    }
    same(found.whole, oracle.of_checkpoints(before, [put_on, after], before), 1e-12)


def test_a_base_with_an_adapter(world):
    """What the second adapter adds to a base that has the first already."""
    base, adapters, _ = world
    found = carrick.similarity([f"{base}+{adapters[0]}+{adapters[1]}", base], f"{base}+{adapters[0]}")
    ours = np.concatenate([dense(adapters[1])[path].ravel() for path in MODULES] + [np.zeros(8)])
    theirs = -np.concatenate([dense(adapters[0])[path].ravel() for path in MODULES] + [np.zeros(8)])
    same(found.whole, np.stack([ours, theirs]), 1e-12)
    assert found.base == "base+en"


def test_blocks_do_not_show(world, monkeypatch):
    base, adapters, tuned = world
    models = [f"{base}+{adapters[0]}", f"{tuned}+{adapters[1]}", tuned]
    expected = carrick.similarity(models, base)
    monkeypatch.setattr(adapted_module, "_BLOCK", 300)
    found = carrick.similarity(models, base)
    np.testing.assert_allclose(found.whole.cosine, expected.whole.cosine, atol=1e-15)
    assert found.whole.sign_conflicts == expected.whole.sign_conflicts
    assert carrick.similarity(models, base, signs=False).whole.sign_conflicts is None


def test_nothing_is_written(world, tmp_path):
    base, adapters, tuned = world
    before = sorted(tmp_path.rglob("*"))
    carrick.similarity([f"{base}+{adapters[0]}", tuned], base)
    assert sorted(tmp_path.rglob("*")) == before


def test_adapters_alone_take_weights(tmp_path):
    folders = [write(tmp_path / f"a{seed}", seed) for seed in range(3)]
    weights = [0.5, -2.0, 0.0]
    found = carrick.similarity([f"{f}:{w}" for f, w in zip(folders, weights, strict=True)], signs=True)
    vectors = np.stack(
        [
            np.concatenate([w * dense(f)[p].ravel() for p in MODULES])
            for f, w in zip(folders, weights, strict=True)
        ]
    )
    np.testing.assert_allclose(found.whole.norms, oracle.norms(vectors), rtol=1e-12)
    np.testing.assert_allclose(found.whole.cosine, oracle.cosine(vectors), atol=1e-12)
    np.testing.assert_allclose(found.whole.sign_conflicts, oracle.sign_conflicts(vectors), atol=5e-3)
    assert found.models == ["a0:0.5", "a1:-2", "a2:0"]


def test_a_folder_of_that_name_is_taken_as_it_is(tmp_path):
    folders = [write(tmp_path / name, seed) for seed, name in enumerate(("a", "a:0.5", "a+b"))]
    found = carrick.similarity(folders)
    vectors = np.stack([np.concatenate([dense(f)[p].ravel() for p in MODULES]) for f in folders])
    same(found.whole, vectors, 1e-12)


def test_the_command(command, world):
    base, adapters, tuned = world
    answer = command(f"{base}+{adapters[0]}:0.5", tuned, "--base", base)
    assert answer.code == 0, answer.err
    assert "base+en:0.5" in answer.out


def spoilt(folder: Path, key: str, place: tuple[int, int]) -> Path:
    tensors = {
        name: np.array(tensor) for name, tensor in carrick.open(folder / "adapter_model.safetensors").items()
    }
    tensors[key][place] = np.nan
    write_file(folder / "adapter_model.safetensors", tensors)
    return folder


def refused(command, words, says):
    answer = command(*words)
    assert answer.code == 2, answer
    assert answer.err.count("error: ") == 1
    assert not answer.out
    for text in says:
        assert text in answer.err


def test_what_is_refused(command, world, tmp_path, monkeypatch):
    base, adapters, tuned = world
    on_base = f"{base}+{adapters[0]}"
    refused(command, [adapters[0], tuned, "--base", base], ("is an adapter", f"BASE+{adapters[0]}"))
    refused(command, [on_base, tuned], ("is a checkpoint", "--base BASE"))
    refused(command, [on_base, tuned, "--base", adapters[0]], ("--base is the checkpoint",))
    refused(command, [f"{base}+{adapters[0]}s", tuned, "--base", base], ("no such file", "did you mean"))
    refused(command, [f"{base}+", tuned, "--base", base], ("models[0]",))
    refused(command, [f"{adapters[0]}+{adapters[1]}", tuned, "--base", base], ("adapter",))
    other = base_of(tmp_path / "other", seed=4)
    shape = write(tmp_path / "shape", 0, {Q: (12, 9)})
    refused(command, [f"{base}+{shape}", tuned, "--base", base], (Q, "base that the adapter was trained on"))
    key = f"{PREFIX}{Q}.lora_B.weight"
    broken = spoilt(write(tmp_path / "broken", 0), key, (3, 1))
    refused(command, [f"{base}+{broken}", tuned, "--base", base], (str(broken), key, "train"))
    nameless = write(tmp_path / "nameless", 0)
    (nameless / "adapter_config.json").unlink()
    refused(command, [adapters[0], nameless], (str(nameless), "has no adapter_config.json"))
    monkeypatch.setattr(adapted_module, "_BLOCK", 300)
    tensors = {name: np.array(tensor) for name, tensor in read_model(other).items()}
    tensors[f"{Q}.weight"][11, 2] = np.inf
    write_file(other / "model.safetensors", tensors)
    refused(command, [on_base, other, "--base", base], (str(other), f"{Q}.weight", "element 90", "--exclude"))
