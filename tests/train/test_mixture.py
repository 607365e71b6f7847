"""Learned coefficients of frozen adapters, and their exact export."""

from __future__ import annotations

import json

import numpy as np
import pytest

from carrick.errors import ConfigError
from train.llama_adapters import (
    KilledError,
    StopAt,
    llama,
    logits,
    quiet,
    save_adapter,
    save_base,
    save_file,
    torch,
    train,
    updates,
    with_adapter,
    write_rows,
)

pytest.importorskip("trl")
mixture = pytest.importorskip("carrick.train.mixture")
pytestmark = quiet

KINDS = ("softmax", "free")
TRAINING = {"steps": 6, "batch_size": 8, "learning_rate": 0.05, "seed": 1, "save_every": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixture")
    save_base(folder / "base", 12)
    # Twelve layers: `layers.1.` is no part of `layers.11.`, and filters have to know it.
    save_adapter(folder / "en", 0, layers=12, lora_dropout=0.5)
    save_adapter(folder / "de", 1, layers=12, rank=2, use_rslora=True, targets=["q_proj", "o_proj"])
    for language, seed in (("en", 0), ("de", 1)):
        write_rows(folder / f"{language}.jsonl", 16, language, seed)
    return folder


def recipe(place, kind, **changes):
    content = {
        "base": str(place / "base"),
        "method": "mixture",
        "data": {"train": [{"file": str(place / f"{language}.jsonl")} for language in ("en", "de")]},
        "adapters": [str(place / "en"), str(place / "de")],
        "coefficients": kind,
        "training": TRAINING,
    }
    return {**content, **changes}


def watch(monkeypatch, seen, **options):
    original = mixture.fit

    def watched(live, job, **given):
        seen["before"] = {n: p.detach().clone() for n, p in live.named_parameters()}
        seen["start"] = logits(live)
        fitted = original(live, job, **given, **options)
        seen["after"] = {n: p.detach().clone() for n, p in live.named_parameters()}
        seen["logits"] = logits(live)
        return fitted

    monkeypatch.setattr(mixture, "fit", watched)


@pytest.fixture(scope="module", params=KINDS)
def mixed(request, place):
    seen = {"kind": request.param, "out": place / request.param}
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, seen)
        seen["report"] = train(recipe(place, request.param), seen["out"])
    seen["table"] = seen["report"].record["details"]["coefficients"]
    return seen


def by_hand(place, table):
    """The base with Σᵢ cᵢ·ΔWᵢ written into it, from the files alone."""
    model = llama(12)
    for name, folder in (("adapter_1", place / "en"), ("adapter_2", place / "de")):
        for path, update in updates(folder).items():
            weight = model.get_submodule(path).weight
            weight.data += table[path][name] * torch.tensor(update, dtype=torch.float32)
    return model


def test_only_the_coefficients_train(mixed):
    moved = {name for name, v in mixed["before"].items() if not torch.equal(v, mixed["after"][name])}
    assert moved == {"base_model.model.mixture_coefficients.theta"}
    assert mixed["report"].record["trainable_parameters"] == 60 * 2


def test_it_begins_as_the_average(mixed, place):
    table = {
        path: {"adapter_1": 0.5, "adapter_2": 0.5}
        if path.endswith("q_proj")
        else {"adapter_1": 1.0, "adapter_2": 1.0}
        for path in mixed["table"]
    }
    torch.testing.assert_close(mixed["start"], logits(by_hand(place, table)), rtol=0, atol=2e-3)


def test_coefficients_of_each_module_and_adapter(mixed):
    table = mixed["table"]
    assert len(table) == 12 * 5
    assert set(table["model.layers.11.self_attn.q_proj"]) == {"adapter_1", "adapter_2"}
    assert set(table["model.layers.11.self_attn.o_proj"]) == {"adapter_2"}
    sums = np.array([sum(row.values()) for row in table.values()])
    values = np.array([value for row in table.values() for value in row.values()])
    if mixed["kind"] == "softmax":
        np.testing.assert_allclose(sums, 1.0, atol=1e-6)
        assert table["model.layers.0.self_attn.o_proj"]["adapter_2"] == 1.0
        theta = mixed["after"]["base_model.model.mixture_coefficients.theta"].double().numpy()
        both = [number for number, row in enumerate(table.values()) if len(row) == 2]
        want = np.exp(theta[both]) / np.exp(theta[both]).sum(axis=1, keepdims=True)
        got = np.array([list(row.values()) for row in table.values() if len(row) == 2])
        np.testing.assert_allclose(got, want, atol=1e-6)
    else:
        assert np.abs(sums - 1.0).max() > 1e-2
    assert len({round(value, 6) for value in values}) > 12


def test_the_export_has_the_logits_of_the_mixture(mixed, place):
    got = logits(with_adapter(mixed["out"], 12))
    torch.testing.assert_close(got, mixed["logits"], rtol=0, atol=5e-4)
    assert (mixed["logits"] - mixed["start"]).abs().max() > 0.05
    torch.testing.assert_close(got, logits(by_hand(place, mixed["table"])), rtol=0, atol=2e-3)


def test_every_module_of_the_export_is_the_weighted_sum(mixed, place):
    """Closer than logits tell: ΔW of each module against float64 sums of the files."""
    model = with_adapter(mixed["out"], 12)
    ones = {"adapter_1": updates(place / "en"), "adapter_2": updates(place / "de")}
    for path, row in mixed["table"].items():
        got = model.base_model.model.get_submodule(path).get_delta_weight("default").detach().double().numpy()
        want = sum(value * ones[name][path] for name, value in row.items())
        np.testing.assert_allclose(got, want, atol=2e-6, err_msg=path)


def test_the_result_is_one_adapter(mixed):
    config = json.loads((mixed["out"] / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == sorted(mixed["table"])
    assert {path.name for path in mixed["out"].iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
    }


def test_resumed_it_ends_as_if_it_had_not_been_stopped(place, mixed, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        watch(patch, {}, callbacks=[StopAt(3)])
        with pytest.raises(KilledError):
            train(recipe(place, mixed["kind"]), tmp_path / "out")
    report = train(recipe(place, mixed["kind"]), tmp_path / "out")
    assert report.record["resumed_from"] == 2
    assert report.record["details"]["coefficients"] == mixed["table"]


def test_a_module_whose_name_ends_another_ones(tmp_path):
    """Coefficients are handed to the merge by parts of names: `h.1.q` is one of `encoder.h.1.q`."""
    paths = ("h.1.q", "encoder.h.1.q", "encoder.h.11.q")
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for path in paths:
        for factor, shape in (("A", (2, 5)), ("B", (4, 2))):
            value = torch.empty(shape).normal_(generator=generator)
            tensors[f"base_model.model.{path}.lora_{factor}.weight"] = value
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": list(paths)}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save_file(tensors, tmp_path / name / "adapter_model.safetensors")
        (tmp_path / name / "adapter_config.json").write_text(json.dumps(config))
    table = {path: {"one": 0.25 * (place + 1), "two": -1.0} for place, path in enumerate(paths)}
    mixture.export(table, {name: tmp_path / name for name in ("one", "two")}, tmp_path / "out")
    before, after = updates(tmp_path / "one"), updates(tmp_path / "out")
    for path, row in table.items():
        np.testing.assert_allclose(after[path], (row["one"] + row["two"]) * before[path], atol=1e-6)


def test_one_adapter_is_no_mixture(place, tmp_path):
    with pytest.raises(ConfigError, match="two or more"):
        train(recipe(place, "free", adapters=[str(place / "en")]), tmp_path / "out")
