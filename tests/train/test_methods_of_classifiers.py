"""Language adapter, alignment and mixture on an encoder under a frozen head; predictions tell what was written."""

from __future__ import annotations

import numpy as np
import pytest

from carrick.adapters import merge
from train.llama_adapters import factors, peft, quiet, torch, train, transformers
from train.tiny import bert, jsonl, opinions

head = pytest.importorskip("carrick.classifier.head")
prediction = pytest.importorskip("carrick.classifier.predict")
pytestmark = quiet

TARGETS = ["query", "value", "intermediate.dense"]
TEXTS = [row["text"] for row in opinions(20)]


def save_adapter(base, folder, seed):
    """An adapter of the bare encoder, with numbers in both factors."""
    config = peft.LoraConfig(
        r=2, lora_alpha=4, target_modules=TARGETS, task_type="FEATURE_EXTRACTION", lora_dropout=0.1
    )
    model = peft.get_peft_model(transformers.AutoModel.from_pretrained(base, add_pooling_layer=False), config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.empty(parameter.shape).normal_(0, 0.3, generator=generator)
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifiers")
    bert(folder / "base")
    rows = opinions(32)
    jsonl(folder / "rows.jsonl", rows)
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    head.fit_head(folder / "base", texts, labels, folder / "head", names=["bad", "good"])
    for seed, name in enumerate(("ta", "la")):
        save_adapter(folder / "base", folder / name, seed)
    return folder


def recipe(place, method, **changes):
    return {
        "base": str(place / "base"),
        "task": "classification",
        "head": str(place / "head"),
        "method": method,
        "data": {"train": {"file": str(place / "rows.jsonl")}},
        "training": {"steps": 4, "batch_size": 8, "learning_rate": 2e-2, "seed": 1},
        **changes,
    }


def predict(place, adapter):
    return prediction.predict(place / "base", place / "head", TEXTS, adapter=adapter)


def test_language_adapter(place, tmp_path):
    adapter = {"rank": 2, "alpha": 4, "targets": TARGETS}
    train(recipe(place, "language_adapter", adapter=adapter, task_adapter=str(place / "ta")), tmp_path / "la")
    merge([place / "ta", tmp_path / "la"], tmp_path / "both", method="cat")
    live = predict(place, [(place / "ta", 1.0), (tmp_path / "la", 1.0)])
    np.testing.assert_allclose(predict(place, tmp_path / "both"), live, atol=1e-5)
    assert np.abs(live - predict(place, place / "ta")).max() > 1e-2
    assert all("encoder.layer" in key and "head" not in key for key in factors(tmp_path / "la"))


def test_alignment(place, tmp_path):
    adapters = {"task_adapter": str(place / "ta"), "language_adapter": str(place / "la")}
    train(recipe(place, "alignment", **adapters, weights=[0.5, 0.75]), tmp_path / "out")
    parts = [(tmp_path / "out" / "parts" / "ta", 0.5), (tmp_path / "out" / "parts" / "la", 0.75)]
    np.testing.assert_allclose(predict(place, tmp_path / "out"), predict(place, parts), atol=1e-5)
    begun = predict(place, [(place / "ta", 0.5), (place / "la", 0.75)])
    assert np.abs(predict(place, tmp_path / "out") - begun).max() > 1e-2


@pytest.mark.parametrize("kind", ["softmax", "free"])
def test_mixture(place, tmp_path, kind):
    adapters = [str(place / "ta"), str(place / "la")]
    report = train(recipe(place, "mixture", adapters=adapters, coefficients=kind), tmp_path / "out")
    table = report.record["details"]["coefficients"]
    assert set(next(iter(table.values()))) == {"adapter_1", "adapter_2"}
    assert len(table) == 6
    base = transformers.AutoModel.from_pretrained(place / "base", add_pooling_layer=False)
    model = peft.PeftModel.from_pretrained(base, tmp_path / "out")
    for path, row in table.items():
        got = model.base_model.model.get_submodule(path).get_delta_weight("default").detach().double().numpy()
        want = 0.0
        for value, name in zip(row.values(), ("ta", "la"), strict=True):
            stored = factors(place / name)
            a, b = (stored[f"base_model.model.{path}.lora_{x}.weight"].double().numpy() for x in "AB")
            want = want + value * 2.0 * b @ a
        np.testing.assert_allclose(got, want, atol=1e-6)
    average = predict(place, [(place / "ta", 0.5), (place / "la", 0.5)])
    assert np.abs(predict(place, tmp_path / "out") - average).max() > 1e-3
