"""Encoders with a frozen head: classes, adapters, where texts are cut, and what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import carrick
from carrick.classifier.head import Head
from carrick.evaluate import evaluate

from . import rows
from .conftest import adapter, with_nan

pytest.importorskip("lm_eval")
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def test_a_classifier_with_a_head_and_adapters(encoder, data, tmp_path):
    from carrick.classifier.predict import predict  # noqa: PLC0415

    random = np.random.default_rng(0)
    # The head's classes stand in another order than the task's.
    names = ("positive", "negative", "neutral")
    head = Head(random.normal(size=(3, 16)).astype("f4"), np.zeros(3, "f4"), names, "tiny")
    head.save(tmp_path / "head")
    modules = {f"encoder.layer.{n}.attention.self.query": (16, 16) for n in range(2)}
    one = adapter(tmp_path / "one", modules, 2, 1)
    two = adapter(tmp_path / "two", modules, 2, 2)
    report = evaluate(
        encoder, [one, f"{two}:0.5"], tasks=["sentiment"], data=data, head=tmp_path / "head", device="cpu"
    )
    texts = {"en": ["bad", "so so", "great", "awful", "fine", "lovely"]}
    found = predict(str(encoder), head, texts["en"], adapter=[(one, 1.0), (two, 0.5)])
    answered = [names[place] for place in found.argmax(axis=1)]
    right = ["negative", "neutral", "positive"] * 2
    result = next(each for each in report.results if each.language == "en")
    assert result.scores["accuracy"].value == np.mean([a == b for a, b in zip(right, answered, strict=True)])
    sklearn = pytest.importorskip("sklearn.metrics")
    expected = sklearn.f1_score(right, answered, average="macro", labels=names, zero_division=0)
    assert result.score.value == pytest.approx(expected)
    assert [each.language for each in report.results] == ["de", "en"]


@pytest.mark.parametrize(
    ("fitted", "trained", "asked", "length"),
    [
        (None, [], None, 100),  # the tokenizer's own maximum
        (64, [], None, 64),
        (64, [80], None, 80),
        (80, [32, 64], None, 64),
        (64, [80], 70, 70),
        (None, [], 400, 120),  # the encoder's positions
        (64, [900], None, 120),
        (64, ["no number"], None, 64),
    ],
)
def test_texts_of_a_classifier_are_cut_where_it_was_trained(  # noqa: PLR0917
    encoder, tmp_path, monkeypatch, fitted, trained, asked, length
):
    """And a note says how many: they have 3, 72, 92 and 142 tokens."""
    from carrick.classifier import predict  # noqa: PLC0415

    shutil.copytree(encoder, tmp_path / "encoder")
    config = transformers.AutoConfig.from_pretrained(encoder)
    config.max_position_embeddings = 120
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "encoder")
    described = tmp_path / "encoder" / "tokenizer_config.json"
    described.write_text(json.dumps({**json.loads(described.read_text()), "model_max_length": 100}))
    # A record of another task says nothing of a classifier.
    other = {"recipe": {"task": "causal", "training": {"max_length": 8}}}
    (tmp_path / "encoder" / "training.json").write_text(json.dumps(other))
    modules = {"encoder.layer.0.attention.self.query": (16, 16)}
    folders = [adapter(tmp_path / f"adapter-{n}", modules, 2, n) for n in range(len(trained))]
    for folder, tokens in zip(folders, trained, strict=True):
        recipe = {"task": "classification", "training": {"max_length": tokens}}
        (folder / "training.json").write_text(json.dumps({"recipe": recipe}))
    names = ("negative", "neutral", "positive")
    Head(np.ones((3, 16), "f4"), np.zeros(3, "f4"), names, "tiny", fitted).save(tmp_path / "head")
    sizes = (3, 72, 92, 142)
    lines = [{"text": " ".join(["bad"] * (size - 2)), "label": "negative"} for size in sizes]
    rows.lines(tmp_path / "data" / "sentiment" / "en.jsonl", lines)
    seen, real = [], predict.predict
    monkeypatch.setattr(
        predict, "predict", lambda *a, **kw: (seen.append(kw["max_length"]), real(*a, **kw))[1]
    )
    report = evaluate(
        tmp_path / "encoder", folders, tasks=["sentiment"], data=tmp_path / "data", head=tmp_path / "head",
        max_length=asked, device="cpu",
    )  # fmt: skip
    assert seen == [length]
    cut = sum(size > length for size in sizes)
    assert report.notes == (
        f"sentiment_en: of {cut} of 4 rows the text is longer than the {length} tokens that the classifier is given; "
        "its end was cut off",
    )


def test_texts_that_a_classifier_sees_whole_get_no_note(encoder, data, tmp_path):
    names = ("negative", "neutral", "positive")
    Head(np.ones((3, 16), "f4"), np.zeros(3, "f4"), names, "tiny").save(tmp_path / "head")
    report = evaluate(encoder, tasks=["sentiment"], data=data, head=tmp_path / "head", device="cpu")
    assert report.notes == ()


def test_a_fitted_head_is_the_same_when_it_is_read_again(encoder, tmp_path):
    """Coefficients of scikit-learn lie column by column in memory, a file row by row."""
    from carrick.classifier.head import fit_head, load_head  # noqa: PLC0415

    texts, labels = ["bad", "so", "great", "awful", "fine", "lovely"] * 2, [0, 1, 2] * 4
    made = fit_head(encoder, texts, labels, tmp_path / "head", names=("negative", "neutral", "positive"))
    read = load_head(tmp_path / "head")
    assert read.max_length == made.max_length == 64
    described = tmp_path / "head" / "head.json"
    content = json.loads(described.read_text())
    del content["max_length"]  # as in the files of earlier versions
    described.write_text(json.dumps(content))
    assert load_head(tmp_path / "head").max_length is None
    assert np.array_equal(read.weight, made.weight)
    assert np.array_equal(read.bias, made.bias)


def test_a_classifier_of_nan(encoder, data, tmp_path):
    model = with_nan(encoder, "embeddings.LayerNorm.weight", tmp_path / "nan")
    names = ("negative", "neutral", "positive")
    Head(np.ones((3, 16), "f4"), np.zeros(3, "f4"), names, "tiny").save(tmp_path / "head")
    report = evaluate(
        model, tasks=["sentiment"], languages=["en"], data=data, head=tmp_path / "head", device="cpu"
    )
    (note,) = [text for text in report.notes if "NaN" in text]
    assert note.startswith("sentiment_en: for 6 of 6 rows")
    assert report.results[0].scores["accuracy"].value == 0.0


def test_a_head_of_another_width(encoder, data, tmp_path):
    names = ("negative", "neutral", "positive")
    Head(np.ones((3, 24), "f4"), np.zeros(3, "f4"), names, "tiny").save(tmp_path / "head")
    with pytest.raises(carrick.ConfigError, match="a head over 24 features; the base gives 16"):
        evaluate(encoder, tasks=["sentiment"], data=data, head=tmp_path / "head", device="cpu")
