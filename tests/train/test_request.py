"""Requests that cannot be carried out: one clear error before any model is loaded, and nothing left behind."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

import carrick
from carrick.classifier.head import Head
from carrick.errors import CarrickError, ConfigError, PlanError
from train.tiny import bert, jsonl, llama, opinions, questions, torch

pytest.importorskip("trl")
fine_tune = pytest.importorskip("carrick.train.fine_tune")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("request")
    llama(folder / "llama")
    bert(folder / "bert")
    jsonl(folder / "qa.jsonl", [{**row, "language": "en"} for row in questions(8)])
    jsonl(folder / "opinions.jsonl", opinions(8))
    jsonl(folder / "four.jsonl", [{"text": "the cat", "label": 4}])
    weight = np.zeros((2, 32), np.float32)
    Head(weight, weight[:, 0], ("bad", "good"), "bert").save(folder / "head")
    wide = np.zeros((2, 48), np.float32)
    Head(wide, wide[:, 0], ("bad", "good"), "bert").save(folder / "wide")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    return folder


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch):
    monkeypatch.setattr(fine_tune, "load_model", lambda *_, **__: pytest.fail("the model was loaded"))


def causal(place, **changes):
    content = {
        "base": str(place / "llama"),
        "data": {"train": {"file": str(place / "qa.jsonl")}},
        "adapter": {"rank": 4, "targets": ["q_proj"]},
        "training": {"steps": 1},
    }
    return {**content, **changes}


def classification(place, **changes):
    content = {
        "base": str(place / "bert"),
        "task": "classification",
        "head": str(place / "head"),
        "data": {"train": {"file": str(place / "opinions.jsonl")}},
        "adapter": {"rank": 4, "targets": ["query"]},
        "training": {"steps": 1},
    }
    return {**content, **changes}


def refused(content, tmp_path, kind=ConfigError, **options):
    with pytest.raises(kind) as caught:
        carrick.train(content, tmp_path / "out", **{"device": "cpu", **options})
    assert list(tmp_path.iterdir()) == []
    return str(caught.value)


CASES = [
    ({"adapter": {"rank": 4, "targets": ["q_prj"]}}, "no module `q_prj`; did you mean `q_proj`"),
    ({"adapter": {"rank": 4, "targets": ["zzz"]}}, "its modules are down_proj, embed_tokens, gate_proj"),
    ({"adapter": {"rank": 4, "targets": r".*\.q_prj"}}, "matches no module"),
    ({"adapter": {"rank": 4, "targets": "(("}}, "no regular expression"),
    ({"adapter": {"rank": 4, "targets": ["q_proj"], "layers": [0, 2]}}, "has no layer 2; it has 2, from 0"),
    ({"adapter": {"rank": 4, "targets": ["lm_head"]}}, "`lm_head` is the output layer"),
]


@pytest.mark.parametrize(("change", "words"), CASES)
def test_adapters_that_the_base_has_no_modules_for(place, tmp_path, change, words):
    assert words in refused(causal(place, **change), tmp_path)


def test_rows(place, tmp_path):
    qa = str(place / "qa.jsonl")
    assert "no column `question`" in refused(
        causal(
            place, data={"train": {"file": qa}, "columns": {"prompt": "question", "completion": "completion"}}
        ),
        tmp_path,
    )
    assert "did you mean `en`" in refused(
        causal(place, data={"train": {"file": qa}, "languages": ["enn"]}), tmp_path
    )
    empty = {
        "train": {"file": qa},
        "validation": {"file": str(place / "opinions.jsonl")},
        "languages": ["en"],
    }
    assert "`data.validation` is empty" in refused(causal(place, data=empty), tmp_path)
    mixed = {"train": [{"file": qa}, {"file": str(place / "opinions.jsonl")}]}
    assert "opinions.jsonl holds plain texts and" in refused(causal(place, data=mixed), tmp_path)


def test_labels_beyond_the_head(place, tmp_path):
    message = refused(classification(place, data={"train": {"file": str(place / "four.jsonl")}}), tmp_path)
    assert message.endswith("four.jsonl: the head has no class `4`; the classes are bad, good (0 to 1)")


def test_a_head_of_another_width(place, tmp_path):
    message = refused(classification(place, head=str(place / "wide")), tmp_path)
    assert "a head over 48 features; the base gives 32" in message


def test_bases(place, tmp_path):
    assert "no such file or folder" in refused(
        causal(place, base=str(place / "lama")), tmp_path, CarrickError
    )
    assert "it is an adapter" in refused(causal(place, base=str(place / "adapter")), tmp_path)


def test_what_is_not_in_the_cache(place, tmp_path):
    """`train` has no option to download: the message names the command that does."""
    message = refused(causal(place, base="org/nowhere"), tmp_path, CarrickError)
    assert message.startswith("base: `org/nowhere` is neither a folder here nor in the Hugging Face cache")
    assert message.endswith("fetch it first with `hf download org/nowhere`")
    message = refused(causal(place, base="org/nowhere@v2"), tmp_path, CarrickError)
    assert message.endswith("`hf download org/nowhere --revision v2`")
    language = {"method": "language_adapter", "task_adapter": "org/nowhere"}
    message = refused(causal(place, **language), tmp_path, CarrickError)
    assert message.startswith("adapter: `org/nowhere` is neither")
    assert "hf download org/nowhere" in message


def test_a_mistyped_folder_names_the_nearest(place, tmp_path, monkeypatch):
    monkeypatch.chdir(place)
    message = refused(causal(place, base="lama"), tmp_path, CarrickError)
    assert message.endswith("`hf download lama`; did you mean `llama`?")


def test_a_base_whose_weights_cannot_be_read(place, tmp_path):
    base = tmp_path.parent / f"{tmp_path.name}-base"
    base.mkdir()
    (base / "config.json").write_bytes((place / "llama" / "config.json").read_bytes())
    assert str(base) in refused(causal(place, base=str(base)), tmp_path, CarrickError)
    data = (place / "llama" / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(data[:-100])
    assert "model.safetensors" in refused(causal(place, base=str(base)), tmp_path, CarrickError)


def test_an_architecture_that_nobody_knows(place, tmp_path):
    base = tmp_path.parent / f"{tmp_path.name}-base"
    base.mkdir()
    config = json.loads((place / "llama" / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "model_type": "nothing_such"}))
    (base / "model.safetensors").write_bytes((place / "llama" / "model.safetensors").read_bytes())
    message = refused(causal(place, base=str(base)), tmp_path)
    assert message.startswith(f"base: {base} is no model that can be trained: ")
    assert "\n" not in message
    (base / "config.json").write_text(json.dumps({**config, "hidden_size": "wide"}))
    message = refused(causal(place, base=str(base)), tmp_path)
    assert message.startswith(f"base: the config.json of {base} is malformed: ")
    assert "hidden_size" in message
    assert "\n" not in message
    (base / "config.json").write_text(json.dumps({**config, "num_attention_heads": 0}))
    message = refused(causal(place, base=str(base)), tmp_path)
    assert message.startswith(f"base: the config.json of {base} is malformed: ")


def test_an_encoder_is_no_language_model(place, tmp_path):
    config = json.loads((place / "bert" / "config.json").read_text())
    base = tmp_path.parent / f"{tmp_path.name}-vit"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({**config, "model_type": "vit"}))
    for name in ("tokenizer.json", "model.safetensors"):
        (base / name).write_bytes((place / "bert" / name).read_bytes())
    assert "a vit model, which is no causal language model" in refused(
        causal(place, base=str(base)), tmp_path
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(place, tmp_path):
    assert "torch sees no GPU here; use --device cpu" in refused(causal(place), tmp_path, device="cuda")
    assert "it is auto, cpu or cuda" in refused(causal(place), tmp_path, device="gpu")


def test_several_gpus_for_one_process(place, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    for device in ("cuda", "auto"):
        assert "torch sees 4 GPUs and one process" in refused(causal(place), tmp_path, device=device)


def test_an_output_that_is_there(place, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "model.safetensors").write_bytes(b"")
    with pytest.raises(PlanError, match="exists already"):
        carrick.train(causal(place), out, device="cpu")


def test_a_missing_library(place, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "carrick.extras.find_spec", lambda name: None if name == "trl" else importlib.util.find_spec(name)
    )
    message = refused(causal(place), tmp_path, CarrickError)
    assert message == "`carrick train` needs trl, which is not installed: pip install 'carrick[train]'"


@pytest.mark.parametrize("dry_run", [True, False])
def test_snapshots_beyond_the_end(place, tmp_path, dry_run):
    training = {"epochs": 2, "batch_size": 3, "snapshots": [6, 7]}
    message = refused(causal(place, training=training), tmp_path, dry_run=dry_run)
    assert message == "training.snapshots names step 7, but the training ends at step 6; name earlier ones"


def test_a_dry_run_counts_and_writes_nothing(place, tmp_path):
    content = causal(
        place,
        training={"epochs": 3, "batch_size": 3},
        cost={"price": 2.0, "tokens_per_second": 100.0},
        search={"learning_rate": [1e-4, 1e-3]},
    )
    report = carrick.train(content, tmp_path / "out", device="cpu", dry_run=True)
    record = report.record
    assert report.dry_run
    assert list(tmp_path.iterdir()) == []
    assert (record["steps"], record["points"], record["epochs"]) == (9, 2, 3.0)
    assert record["data"]["train"]["languages"] == {"en": 8}
    tokens = sum(len(f"{row['prompt']} {row['completion']}".split()) + 1 for row in questions(8))
    assert record["data"]["train"]["tokens"] == tokens
    assert record["tokens_seen"] == 2 * 3 * tokens
    assert record["device_seconds"] == pytest.approx(record["tokens_seen"] / 100)
    assert record["cost"] == pytest.approx(record["device_seconds"] / 3600 * 2)
    assert record["trainable_parameters"] == 2 * 4 * (32 + 32)
