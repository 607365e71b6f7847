"""Extracted adapters: loaded by PEFT, compared with the tuned model, a dense float64 SVD and mergekit."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from adapters.zoo import bert, gpt2, llama, llama_tied, peft, qwen2, torch
from carrick.adapters import extract, read
from carrick.cli.entry import main
from carrick.errors import CarrickError, ConfigError, PlanError
from oracles.files import read_file, read_model, write_model

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX = "base_model.model."


def models(make: Callable[[], Any], folder: Path, changed: str = "", seed: int = 0) -> tuple[Any, Any]:
    """A model, and one in which every parameter with `changed` in its name differs; both saved."""
    torch.manual_seed(seed)
    base = make().eval()
    torch.manual_seed(seed)
    tuned = make().eval()
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if changed in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base.save_pretrained(folder / "base")
        tuned.save_pretrained(folder / "tuned")
    return base, tuned


def loaded(base: Any, folder: Path) -> Any:
    """The base with the adapter, loaded by PEFT without a word about keys."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(base, folder).eval()
    said = [str(warning.message) for warning in caught]
    assert not [text for text in said if "key" in text.lower()], said
    return model


def logits(model: Any) -> Any:
    ids = torch.arange(12).reshape(1, 12)
    with torch.no_grad():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.numpy()


@pytest.mark.parametrize("make", [llama, llama_tied, qwen2, gpt2, bert])
def test_full_rank_gives_the_tuned_model_back(make: Callable[[], Any], tmp_path: Path) -> None:
    base, tuned = models(make, tmp_path)
    report = extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", rank=99)
    assert max(module["error"] for module in report.modules) < 1e-6
    assert not report.notes
    np.testing.assert_allclose(logits(loaded(base, tmp_path / "out")), logits(tuned), atol=2e-6)
    # Carrick reads and applies what it wrote.
    held = read(tmp_path / "out")
    assert {module["path"] for module in report.modules} == set(held.modules)


def test_a_tied_head_follows_its_embeddings(tmp_path: Path) -> None:
    base, tuned = models(llama_tied, tmp_path, "embed_tokens")
    with torch.no_grad():
        tuned.model.layers[0].mlp.up_proj.weight[0, 0] += 1
    tuned.save_pretrained(tmp_path / "tuned")
    report = extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", rank=1)
    assert report.config["modules_to_save"] == ["lm_head", "model.embed_tokens"]
    assert report.config["target_modules"] == ["model.layers.0.mlp.up_proj"]
    np.testing.assert_allclose(logits(loaded(base, tmp_path / "out")), logits(tuned), atol=1e-6)


def wide_llama() -> Any:
    return llama(hidden_size=64, intermediate_size=160, num_attention_heads=4, vocab_size=48)


@pytest.mark.parametrize("exact", [False, True])
def test_factors_are_the_best_of_their_rank(tmp_path: Path, *, exact: bool) -> None:
    models(wide_llama, tmp_path, "proj")
    report = extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", rank=4, exact=exact)
    base, tuned = read_model(tmp_path / "base"), read_model(tmp_path / "tuned")
    held = read_file(tmp_path / "out" / "adapter_model.safetensors")
    assert report.config["modules_to_save"] is None
    assert len(report.modules) == 14
    for module in report.modules:
        name = f"{module['path']}.weight"
        delta = (tuned[name] - base[name]).astype("f8")
        a, b = (held[f"{PREFIX}{module['path']}.lora_{f}.weight"].astype("f8") for f in "AB")
        sigma = np.linalg.svd(delta, compute_uv=False)
        best = np.sqrt((sigma[4:] ** 2).sum() / (sigma**2).sum())
        error = np.linalg.norm(delta - b @ a) / np.linalg.norm(delta)
        assert error <= (1.0001 if exact else 1.01) * best
        assert module["error"] == pytest.approx(error, rel=1e-4)
        assert module["norm"] == pytest.approx(np.linalg.norm(delta), rel=1e-5)
        np.testing.assert_allclose(module["sigma"], sigma[:4], rtol=1e-5 if exact else 0.05)


def test_ranks_by_pattern_energy_and_chosen_modules(tmp_path: Path) -> None:
    base, _ = models(wide_llama, tmp_path, "layers")
    paths = [tmp_path / "base", tmp_path / "tuned"]
    ranks = {r"layers\.0\.self_attn\.q_proj": 2, "(q|v)_proj": 5}
    report = extract(*paths, tmp_path / "a", rank=3, rank_of=ranks, modules=["[qkv]_proj"])
    found = {module["path"].split("layers.")[1]: module["rank"] for module in report.modules}
    assert found == {
        "0.self_attn.q_proj": 2, "0.self_attn.k_proj": 3, "0.self_attn.v_proj": 5,
        "1.self_attn.q_proj": 5, "1.self_attn.k_proj": 3, "1.self_attn.v_proj": 5,
    }  # fmt: skip
    model = loaded(base, tmp_path / "a")
    assert model.get_submodule("base_model.model.model.layers.1.self_attn.v_proj").r["default"] == 5
    assert any("8 tensors differ and are not among --modules" in note for note in report.notes)

    report = extract(*paths, tmp_path / "b", energy=0.7, modules_to_save="none")
    before, after = read_model(paths[0]), read_model(paths[1])
    for module in report.modules:
        name = f"{module['path']}.weight"
        squares = np.linalg.svd((after[name] - before[name]).astype("f8"), compute_uv=False) ** 2
        assert module["rank"] == int(np.searchsorted(np.cumsum(squares) / squares.sum(), 0.7)) + 1
        assert 1 - module["error"] ** 2 >= 0.7
    assert report.config["modules_to_save"] is None
    assert any("differ and are not stored" in note for note in report.notes)


def test_what_is_equal_is_left_out(tmp_path: Path) -> None:
    base, tuned = models(llama, tmp_path, "layers.1.self_attn.q_proj")
    report = extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", rank=16)
    assert [m["path"] for m in report.modules if m["rank"]] == ["model.layers.1.self_attn.q_proj"]
    assert set(read_file(tmp_path / "out" / "adapter_model.safetensors")) == {
        f"{PREFIX}model.layers.1.self_attn.q_proj.lora_{f}.weight" for f in "AB"
    }
    np.testing.assert_allclose(logits(loaded(base, tmp_path / "out")), logits(tuned), atol=1e-6)


def test_names_without_the_prefix_of_the_head(tmp_path: Path) -> None:
    """`gpt2` on the Hub was saved without `transformer.`; PEFT sees the whole model."""
    base, tuned = models(gpt2, tmp_path, "c_fc")
    for which in ("base", "tuned"):
        tensors = read_model(tmp_path / which)
        bare = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        config = json.loads((tmp_path / which / "config.json").read_text())
        write_model(tmp_path / f"{which}-bare", bare, config=config)
    report = extract(tmp_path / "base-bare", tmp_path / "tuned-bare", tmp_path / "out", rank=16)
    assert report.config["target_modules"] == ["transformer.h.0.mlp.c_fc", "transformer.h.1.mlp.c_fc"]
    np.testing.assert_allclose(logits(loaded(base, tmp_path / "out")), logits(tuned), atol=1e-6)


def test_bfloat16_models_and_another_type(tmp_path: Path) -> None:
    models(lambda: wide_llama().bfloat16(), tmp_path, "proj")
    extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "same", rank=8)
    extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "wide", rank=8, dtype="float32")
    same, wide = (read_file(tmp_path / name / "adapter_model.safetensors") for name in ("same", "wide"))
    for name, tensor in wide.items():
        assert tensor.dtype == np.float32
        np.testing.assert_array_equal(tensor.astype(same[name].dtype), same[name])


def test_the_record_is_the_same_for_the_same_inputs(tmp_path: Path) -> None:
    models(llama, tmp_path)
    files = []
    for threads in (1, 2):
        out = tmp_path / f"out{threads}"
        extract(tmp_path / "base", tmp_path / "tuned", out, rank=3, threads=threads)
        files.append([(out / name).read_bytes() for name in ("carrick.json", "adapter_model.safetensors")])
        assert not (tmp_path / f"out{threads}.carrick-partial").exists()
        assert sorted(p.name for p in out.iterdir()) == [
            "adapter_config.json", "adapter_model.safetensors", "carrick.json",
        ]  # fmt: skip
    assert files[0] == files[1]
    assert str(tmp_path) not in files[0][0].decode()


def test_mergekit_finds_no_better_factors(tmp_path: Path) -> None:
    mergekit = Path(sys.executable).with_name("mergekit-extract-lora")
    if not mergekit.exists():
        pytest.skip("mergekit is not installed")
    models(wide_llama, tmp_path, "proj")
    command = [str(mergekit), "--model", str(tmp_path / "tuned"), "--base-model", str(tmp_path / "base"),
               "--out-path", str(tmp_path / "mergekit"), "--max-rank", "6"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-300:]
    extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "ours", rank=6)
    base, tuned = read_model(tmp_path / "base"), read_model(tmp_path / "tuned")
    theirs, ours = (read_file(tmp_path / name / "adapter_model.safetensors") for name in ("mergekit", "ours"))
    compared = 0
    for key in ours:
        if not key.endswith("lora_A.weight") or key not in theirs:
            continue
        name = key.removeprefix(PREFIX).replace("lora_A.", "")
        delta = (tuned[name] - base[name]).astype("f8")
        left = [
            np.linalg.norm(delta - held[key.replace("_A", "_B")].astype("f8") @ held[key].astype("f8"))
            for held in (ours, theirs)
        ]
        assert left[0] <= 1.01 * left[1]
        compared += 1
    assert compared >= 14


def spoil(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    tensors = dict(read_model(folder / "tuned"))
    change(tensors)
    return write_model(folder / "spoilt", tensors)


def test_models_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    models(llama, tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"

    def nan(tensors: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name][0, 0] = np.nan

    cases: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
        (lambda tensors: tensors.pop(name), f"has no tensor '{name}'"),
        (lambda tensors: tensors.update({name: tensors[name][:, :8]}), r"the shape \[16, 8\].*\[16, 16\]"),
        (lambda tensors: tensors.update({"model.layers.0.new.weight": tensors[name]}), "no such tensor"),
        (nan, rf"{name}.*NaN"),
    ]
    for change, reason in cases:
        folder = spoil(tmp_path, change)
        with pytest.raises(CarrickError, match=reason):
            extract(tmp_path / "base", folder, tmp_path / "out", rank=2)
        assert not (tmp_path / "out").exists()
        assert not (tmp_path / "out.carrick-partial").exists()
    with pytest.raises(PlanError, match="does not differ"):
        extract(tmp_path / "base", tmp_path / "base", tmp_path / "out", rank=2)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "how much to keep"),
        ({"rank": 0}, "at least 1"),
        ({"rank": 2, "energy": 0.5}, "energy decides"),
        ({"energy": 1.5}, "above 0"),
        ({"rank": 2, "rank_of": {"nothing": 3}}, "matches no module"),
        (
            {"rank": 2, "modules": ["q_proj", "v_pro"]},
            "--modules: 'v_pro' matches no matrix.*did you mean `v_proj`",
        ),
        (
            {"rank": 2, "modules": ["q_proj", "zzz"]},
            "'zzz' matches no matrix.*these end in down_proj, gate_proj, k_proj",
        ),
        ({"rank": 2, "modules": ["lm_head"]}, "'lm_head' matches no matrix of a layer"),
        ({"rank": 2, "dtype": "int8"}, "int8"),
        ({"rank": 2, "modules_to_save": "all"}, "differing"),
        ({"rank": 2, "threads": 0}, "threads is 0"),
        ({"rank": 2, "seed": -1}, "seed is -1"),
        ({"rank": 2, "seed": 2**64}, "whole number"),
    ],
)
def test_requests_that_cannot_be_met(options: dict[str, Any], reason: str, tmp_path: Path) -> None:
    models(llama, tmp_path)
    with pytest.raises(ConfigError, match=reason):
        extract(tmp_path / "base", tmp_path / "tuned", tmp_path / "out", **options)


@pytest.mark.parametrize("exact", [False, True])
def test_the_seed_keys_the_search_and_nothing_else(tmp_path: Path, *, exact: bool) -> None:
    models(wide_llama, tmp_path, "proj")
    held, errors = [], []
    for number, seed in enumerate((0, 5, 5)):
        out = tmp_path / f"out{number}"
        report = extract(tmp_path / "base", tmp_path / "tuned", out, rank=4, exact=exact, seed=seed)
        held.append((out / "adapter_model.safetensors").read_bytes())
        errors.append([module["error"] for module in report.modules])
        assert json.loads((out / "carrick.json").read_text())["seed"] == seed
    assert held[1] == held[2]
    assert (held[0] == held[1]) == exact
    np.testing.assert_allclose(errors[1], errors[0], rtol=0.01)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models(llama, tmp_path, "proj")
    paths = [str(tmp_path / name) for name in ("base", "tuned")]
    command = ["adapters", "extract", *paths, "-o", str(tmp_path / "out"), "-r", "2", "--rank-of", "q_proj=4"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "model.layers.0.self_attn.q_proj" in said
    assert "error" in said
    assert main([*command, "--json", "--force"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {module["rank"] for module in report["modules"]} == {2, 4}
    assert main([*command, "--force", "--seed", "3"]) == 0
    assert json.loads((tmp_path / "out" / "carrick.json").read_text())["seed"] == 3
    capsys.readouterr()
    assert main([*command, "--rank-of", "broken"]) == 2
    assert "PATTERN=R" in capsys.readouterr().err
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
