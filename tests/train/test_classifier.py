"""The shared frozen head: pooling, fitting, and logits with one adapter or several, against NumPy and a merge."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from carrick import adapters
from carrick.classifier.head import Head, check_width, fit_head, load_head
from carrick.classifier.predict import features, predict
from carrick.errors import ConfigError, FormatError
from carrick.evaluate.metrics.bertscore import check_encoder
from carrick.quiet import quiet_libraries
from train.tiny import bert, opinions, torch, transformers

peft = pytest.importorskip("peft")
linear_model = pytest.importorskip("sklearn.linear_model")

TEXTS = ["the cat sat on the mat", "dog", "the sun is very good so bad", "rain day", "one two three"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return bert(tmp_path_factory.mktemp("classifier") / "base")


@pytest.fixture(scope="module")
def head():
    generator = np.random.default_rng(0)
    weight = generator.standard_normal((3, 32), dtype=np.float32)
    return Head(weight, np.array([0.1, -0.2, 0.3], np.float32), ("bad", "neutral", "good"), "base")


def adapter(base, folder, seed):
    model = transformers.AutoModel.from_pretrained(base, add_pooling_layer=False)
    config = peft.LoraConfig(
        r=2, lora_alpha=3, target_modules=["query", "dense"], task_type="FEATURE_EXTRACTION"
    )
    with quiet_libraries():
        model = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    model.save_pretrained(folder)
    return folder


def by_hand(base, texts):
    """One text at a time: no batches, no padding, no mask, float64 pooling."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    model = transformers.AutoModel.from_pretrained(base).eval()
    pooled = []
    for text in texts:
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            pooled.append(model(ids).last_hidden_state[0].numpy().astype(np.float64).mean(0))
    return np.stack(pooled)


def test_features_are_means_over_tokens_in_the_order_of_the_texts(base):
    np.testing.assert_allclose(features(base, TEXTS, batch_size=2), by_hand(base, TEXTS), atol=1e-5)


def test_logits_are_the_head_over_the_features(base, head):
    expected = by_hand(base, TEXTS) @ head.weight.T.astype(np.float64) + head.bias
    np.testing.assert_allclose(predict(base, head, TEXTS, batch_size=2), expected, atol=1e-4)
    low = predict(base, head, TEXTS, precision="bfloat16")
    assert 0 < np.abs(low - expected).max() < 0.3


def test_several_adapters_are_the_sum_of_their_updates(base, head, tmp_path):
    one, two = adapter(base, tmp_path / "one", 1), adapter(base, tmp_path / "two", 2)
    adapters.merge([one, two], tmp_path / "cat", method="cat", weights=[0.5, 2.0])
    together = predict(base, head, TEXTS, adapter=[(one, 0.5), (two, 2.0)])
    merged = predict(base, head, TEXTS, adapter=tmp_path / "cat")
    alone = predict(base, head, TEXTS, adapter=one)
    np.testing.assert_allclose(together, merged, atol=2e-4)
    assert np.abs(merged - alone).max() > 0.1
    np.testing.assert_array_equal(predict(base, head, TEXTS, adapter=[]), predict(base, head, TEXTS))


def test_a_head_is_a_logistic_regression(base, tmp_path):
    rows = opinions(60)
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    made = fit_head(base, texts, labels, tmp_path / "head", names=["bad", "good"])
    read = load_head(tmp_path / "head")
    assert read.labels == ("bad", "good")
    np.testing.assert_array_equal(read.weight, made.weight)
    pooled = by_hand(base, texts)
    fitted = linear_model.LogisticRegression(max_iter=2000).fit(pooled, labels)
    logits = pooled @ read.weight.T + read.bias
    probability = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose(probability, fitted.predict_proba(pooled)[:, 1], atol=1e-3)


def test_three_classes_keep_their_rows(base, tmp_path):
    texts = TEXTS * 6
    labels = [0, 1, 2, 0, 1] * 6
    made = fit_head(base, texts, labels, tmp_path / "head", names=["a", "b", "c"])
    assert made.weight.shape == (3, 32)


def test_labels_are_names_or_places(head):
    assert [head.index(label) for label in ("bad", 2, "1")] == [0, 2, 1]
    with pytest.raises(ConfigError, match="no class `godo`; did you mean `good`"):
        head.index("godo")
    with pytest.raises(ConfigError, match="no class `3`; the classes are bad, neutral, good"):
        head.index(3)


def test_a_head_of_another_width(base):
    wide = np.zeros((2, 48), np.float32)
    with pytest.raises(
        ConfigError, match=r"head over 48 features; the base gives 32\. It was fitted on elsewhere"
    ):
        predict(base, Head(wide, wide[:, 0], ("bad", "good"), "elsewhere"), TEXTS)


def test_texts_beyond_the_positions_are_cut(base, head):
    """The encoder has 64 positions."""
    long, cut = " ".join(["cat", "sun"] * 40), " ".join(["cat", "sun"] * 32)
    np.testing.assert_array_equal(
        features(base, [long], max_length=100), features(base, [cut], max_length=64)
    )
    np.testing.assert_array_equal(
        predict(base, head, [long], max_length=100), predict(base, head, [cut], max_length=64)
    )


def test_a_base_that_is_not_in_the_cache(head):
    for call in (lambda: features("org/nowhere", TEXTS), lambda: predict("org/nowhere", head, TEXTS)):
        with pytest.raises(FormatError, match=r"^base: `org/nowhere` is .*`hf download org/nowhere`$"):
            call()


def test_an_encoder_that_lacks_weights(base, head, tmp_path):
    shutil.copytree(base, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, tmp_path / "base" / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ConfigError, match=r"no complete model: it holds no `encoder\.layer\.1\.output\.dense"
    ):
        predict(tmp_path / "base", head, TEXTS)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (None, "is that of no encoder: Unrecognized model"),
        ({"hidden_size": "16"}, "is malformed: .*hidden_size"),
        ({"num_attention_heads": 0}, "is malformed: a size or count in it is zero"),
        ({"num_attention_heads": 3}, "is that of no encoder: .*not a multiple"),
        ({"hidden_act": "nope"}, "is that of no encoder: 'nope'"),
    ],
)
def test_a_malformed_config_of_an_encoder(base, head, tmp_path, changes, words):
    """BERTScore's encoder is checked by the same function, before a whole evaluation."""
    shutil.copytree(base, tmp_path / "base")
    config = tmp_path / "base" / "config.json"
    config.write_text(json.dumps({} if changes is None else json.loads(config.read_text()) | changes))
    with pytest.raises(ConfigError, match=rf"^the config\.json of .*base {words}"):
        check_width(head, tmp_path / "base")
    with pytest.raises(ConfigError, match=rf"^the config\.json of .*base {words}"):
        predict(tmp_path / "base", head, TEXTS)
    with pytest.raises(ConfigError, match=rf"^the config\.json of .*base {words}"):
        features(tmp_path / "base", TEXTS)
    with pytest.raises(ConfigError, match=rf"^--bertscore: the config\.json of .*base {words}"):
        check_encoder(tmp_path / "base")


def test_no_head(tmp_path, base):
    with pytest.raises(ConfigError, match=r"holds no head: there is no head\.json"):
        load_head(tmp_path)
    with pytest.raises(ConfigError, match="no row has the label 1"):
        fit_head(base, ["a"], [0], tmp_path, names=["bad", "good"])
    (tmp_path / "head.json").write_text("{}")
    (tmp_path / "head.safetensors").write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="holds no readable head"):
        load_head(tmp_path)
