"""ROUGE, BERTScore and the hallucination rate against computations of their definitions."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from carrick.errors import CarrickError
from carrick.evaluate.metrics.bertscore import bertscore
from carrick.evaluate.metrics.hallucination import aggregated_hallucination_rate, listed_examples
from carrick.evaluate.metrics.rouge import rouge
from carrick.evaluate.metrics.tokens import tokens

pytest.importorskip("rouge_score")

SENTENCES = {
    "ja": "猫がソファーの上で寝ています。",
    "zh": "猫在沙发上睡觉。",
    "th": "แมวนอนอยู่บนโซฟา",
    "bn": "বিড়ালটি সোফায় ঘুমাচ্ছে।",
    "hi": "बिल्ली सोफ़े पर सो रही है।",
    "te": "పిల్లి సోఫా మీద నిద్రపోతోంది.",
    "ar": "القطة نائمة على الأريكة.",
    "ru": "Кошка спит на диване.",
    "de": "Die Katze schläft auf dem großen Sofa.",
    "en": "The cat sleeps on the sofa.",
}


@pytest.mark.parametrize("language", SENTENCES)
def test_identical_texts_score_one(language):
    text = SENTENCES[language]
    assert rouge([text], [text]).means() == {"rouge1": 1.0, "rouge2": 1.0, "rougeL": 1.0}


def test_the_english_default_scores_zero_where_it_sees_no_letters():
    for language in ("ja", "zh", "th", "bn", "hi", "te", "ar", "ru"):
        text = SENTENCES[language]
        assert rouge([text], [text], tokenizer="english").rouge1[0] == 0.0


def test_words_and_characters():
    assert tokens(SENTENCES["de"]) == ["die", "katze", "schläft", "auf", "dem", "grossen", "sofa"]
    assert tokens(SENTENCES["hi"]) == ["बिल्ली", "सोफ़े", "पर", "सो", "रही", "है"]
    assert tokens(SENTENCES["bn"]) == ["বিড়ালটি", "সোফায়", "ঘুমাচ্ছে"]
    assert tokens(SENTENCES["zh"]) == list("猫在沙发上睡觉")
    assert tokens("ผู้หญิง") == ["ผู้", "ห", "ญิ", "ง"]
    assert tokens("AI企業のGPT-4o") == ["ai", "企", "業", "の", "gpt", "4o"]
    assert tokens("안녕하세요 세계") == ["안녕하세요", "세계"]
    assert tokens("క్\u200cష") == tokens("క్ష")
    assert tokens(" …—!") == []


def f1(overlap, predicted, reference):
    return 2 * overlap / (predicted + reference) if predicted + reference and overlap else 0.0


def by_definition(prediction, reference):
    """Counts of n-grams and the longest common subsequence by dynamic programming, written here."""
    a, b = tokens(prediction), tokens(reference)
    found = []
    for n in (1, 2):
        grams = [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (a, b)]
        found.append(f1(sum((grams[0] & grams[1]).values()), *(sum(each.values()) for each in grams)))
    length = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            length[i + 1, j + 1] = (
                length[i, j] + 1 if one == other else max(length[i, j + 1], length[i + 1, j])
            )
    return [*found, f1(int(length[-1, -1]), len(a), len(b))]


@pytest.mark.parametrize(
    ("prediction", "reference"),
    [
        ("猫は床で寝る", SENTENCES["ja"]),
        ("Die große Katze schläft auf der Katze", SENTENCES["de"]),
        ("बिल्ली पर सो रही", SENTENCES["hi"]),
        ("nothing shared", "gar nichts gemein"),
        ("", "something"),
        ("a a a b", "a b a"),
    ],
)
def test_against_the_definition(prediction, reference):
    found = rouge([prediction], [reference])
    assert [values[0] for values in found] == pytest.approx(by_definition(prediction, reference))


def test_each_text_is_scored():
    found = rouge(["猫", "犬"], ["猫", "猫"])
    assert found.rouge1.tolist() == [1.0, 0.0]
    assert found.means()["rouge1"] == 0.5
    with pytest.raises(CarrickError, match="1 texts stand against 2"):
        rouge(["a"], ["a", "b"])


def test_hallucination():
    inputs = ["The room was dirty. Staff: very kind!", ["late bus", "no food at all"], "empty", "quiet"]
    examples = [
        ["The room was dirty.", "staff very kind", "the roo", "pool was closed", "  "],
        ["no food", "late bus no food"],
        [],
        ["!!!"],
    ]
    found = aggregated_hallucination_rate(examples, inputs)
    # Exactly: the second and fourth of the first input are not there ("the roo" differs by its case), the
    # joined one of the second, the punctuation. By words "the roo" is no whole word.
    assert found.per_input == ((4, 3, 2), (2, 1, 1), (0, 0, 0), (1, 1, 1))
    assert found.exact == 5 / 7
    assert found.normalised == 4 / 7
    assert (found.examples, found.silent) == (7, 1)


def test_hallucination_in_scripts_without_spaces():
    found = aggregated_hallucination_rate([["部屋が汚い", "プールが閉鎖"]], ["部屋が、汚いと思いました。"])
    assert (found.exact, found.normalised) == (1.0, 0.5)


def test_no_example_is_no_rate():
    found = aggregated_hallucination_rate([[]], ["text"])
    assert (found.exact, found.normalised, found.silent) == (None, None, 1)
    with pytest.raises(CarrickError, match="1 inputs stand against 0"):
        aggregated_hallucination_rate([[]], [])


def test_listed_examples():
    answer = "Themes:\n1. Delay\n- \"an hour late\"\n* 'no news'\n2) „gar nichts“\n"
    assert listed_examples(answer) == ["Delay", "an hour late", "no news", "gar nichts"]
    assert listed_examples("「部屋が汚い」\n\nlate") == ["部屋が汚い", "late"]
    assert listed_examples("") == []


def test_bold_headings_and_rules_are_no_examples():
    quotes = ["an hour late", "no news", "very kind"]
    listed = "**Delays**\n- an hour late\n* no news\n---\n**Staff:**\n\n– very kind\n* * *\n"
    assert listed_examples(listed) == quotes
    assert listed_examples("**Delays** and\n1. an hour late\n2) no news\n___\n・very kind") == quotes
    found = aggregated_hallucination_rate([listed_examples(listed)], [quotes])
    assert (found.examples, found.exact, found.normalised) == (3, 0.0, 0.0)
    # Without any bullet the lines are examples, whatever stands in front of them.
    assert listed_examples("__Delays__:\n-an hour late\n***\n•no news\n\nvery kind") == quotes
    assert listed_examples("-") == listed_examples("**Delays**") == []


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    pytest.importorskip("bert_score")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("encoder")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sleeps", "on", "sofa", "dog", "runs"]
    (folder / "vocab.txt").write_text("\n".join(words))
    tokenizer = transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=16)
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def embeddings(folder, text, layer):
    import torch  # noqa: PLC0415
    from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415

    model = AutoModel.from_pretrained(folder).double().eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoded = tokenizer(text, return_tensors="pt")
    with torch.no_grad():
        hidden = model(**encoded, output_hidden_states=True).hidden_states[layer][0].numpy()
    return hidden / np.linalg.norm(hidden, axis=1, keepdims=True)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("layer", [None, 1])
def test_bertscore_against_the_definition(encoder, layer):
    pairs = [("the cat sleeps", "the dog sleeps on the sofa"), ("", "the cat"), ("the cat", "the cat")]
    found = bertscore([a for a, _ in pairs], [b for _, b in pairs], encoder, layer=layer)
    a, b = (embeddings(encoder, text, layer or 2) for text in pairs[0])
    # Each token (without [CLS] and [SEP], which weigh nothing) is matched with the likest of the other side,
    # which may be one of those two.
    likeness = a @ b.T
    precision, recall = likeness[1:-1].max(axis=1).mean(), likeness[:, 1:-1].max(axis=0).mean()
    assert found.precision[0] == pytest.approx(precision, abs=1e-5)
    assert found.recall[0] == pytest.approx(recall, abs=1e-5)
    assert found.f1[0] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-5)
    assert (found.f1[1], found.f1[2]) == (0.0, pytest.approx(1.0, abs=1e-5))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_bertscore_where_the_tokenizer_states_no_length(encoder, tmp_path):
    """The encoder has 16 positions, two of them for [CLS] and [SEP]; the rest of a text is cut off."""
    transformers = pytest.importorskip("transformers")
    shutil.copytree(encoder, tmp_path / "encoder")
    config = transformers.AutoConfig.from_pretrained(encoder)
    config.max_position_embeddings = 16
    transformers.BertModel(config).save_pretrained(tmp_path / "encoder")
    described = tmp_path / "encoder" / "tokenizer_config.json"
    content = json.loads(described.read_text())
    del content["model_max_length"]
    described.write_text(json.dumps(content))
    assert transformers.AutoTokenizer.from_pretrained(described.parent).model_max_length > 10**20
    long, reference = " ".join(["the cat sleeps on"] * 9), "the dog runs on the sofa"
    cut = " ".join(long.split()[:14])
    found = bertscore([long, reference], [reference, long], described.parent)
    expected = bertscore([cut, reference], [reference, cut], described.parent)
    assert np.isfinite(found.f1).all()
    assert found.f1 == pytest.approx(expected.f1, abs=1e-6)
    assert found.precision[0] == pytest.approx(found.recall[1], abs=1e-6)


def test_bertscore_refuses_a_layer_that_is_not_there(encoder):
    with pytest.raises(CarrickError, match="the layers are 1 to 2"):
        bertscore(["a"], ["b"], encoder, layer=3)
