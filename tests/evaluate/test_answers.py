"""Numbers and labels in generated answers, in each language of MGSM."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from carrick.evaluate.metrics.answers import PHRASES, label, last_number, number, stated_number
from carrick.evaluate.tasks import mmlu_prox


@pytest.mark.parametrize(
    ("text", "language", "value"),
    [
        ("18", "en", "18"),
        ("2,125", "en", "2125"),
        ("2,125", "de", "2125"),  # MGSM's own answers are written so in every language
        ("114,200", "sw", "114200"),
        ("1,234,567.5", "en", "1234567.5"),
        ("21.25", "en", "21.25"),
        ("2.125", "en", "2.125"),
        ("2.125", "de", "2125"),
        ("1.234.567,5", "es", "1234567.5"),
        ("21,25", "fr", "21.25"),
        ("0,5", "ru", "0.5"),
        ("80 000", "es", "80000"),
        ("80\u202f000", "fr", "80000"),
        ("1,25,000", "bn", "125000"),
        ("1,25,000", "en", None),
        ("12,5", "en", None),
        ("১৮", "bn", "18"),
        ("２，１２５", "ja", "2125"),
        ("−5", "en", "-5"),
        ("-5", "en", "-5"),
        ("$18", "en", "18"),
        ("-$18.00", "en", "-18.00"),
        ("€1.000", "de", "1000"),
        ("18.", "en", "18"),
        ("8.0", "en", "8.0"),
        ("1.2.3", "en", None),
        ("eighteen", "en", None),
        ("", "en", None),
        ("²", "en", None),
    ],
)
def test_number(text, language, value):
    assert number(text, language) == (None if value is None else Decimal(value))


def test_the_comma_matters_and_the_point_too():
    """What the harness cannot tell apart: it deletes the punctuation of both sides."""
    assert number("2,125") == number("2125")
    assert number("21.25") != number("2125")
    assert number("-5") != number("5")
    assert number("8.0") == number("8")


@pytest.mark.parametrize(
    ("language", "answer", "value"),
    [
        ("bn", "5 + 6 = 11। উত্তর হল 11।", 11),
        ("bn", "উত্তর হল ১১।", 11),
        ("de", "Das macht 5 + 6 = 11. Die Antwort ist 11.", 11),
        ("de", "Die Antwort lautet 2.125 Euro.", 2125),
        ("en", "So 9 * 2 = 18. The answer is $18. Then 7.", 18),
        ("en", "The answer is **18**.", 18),
        ("es", "La respuesta es 80 000.", 80000),
        ("fr", "La réponse est 2 125 €.", 2125),
        ("ja", "答えは39個。", 39),
        ("ja", "答えは２，１２５です。", 2125),
        ("ru", "5 + 6 = 11. Ответ — 11.", 11),
        ("ru", "Ответ: 11", 11),
        ("sw", "Jibu ni 11.", 11),
        ("te", "5+6=11. సమాధానం 11.", 11),
        ("th", "5 + 6 = 11 คำตอบคือ 11", 11),
        ("zh", "5 + 6 = 11。答案是 11。", 11),
        ("zh", "答案是11", 11),
        ("en", "The answer is unknown: 11", None),
        ("en", "11", None),
        ("xx", "The answer is 11", None),
    ],
)
def test_stated_number(language, answer, value):
    assert stated_number(answer, language) == value


def test_the_first_statement_counts_and_the_last_number():
    answer = "The answer is 18. Question: another. The answer is 7."
    assert stated_number(answer, "en") == 18
    assert last_number(answer, "en") == 7
    assert last_number("buys 5 100 dollar bills", "en") == 100
    assert last_number("coûte 5 100 dollars", "fr") == 5100
    assert last_number("none at all", "en") is None
    assert last_number("12 is right, not 1.2.3", "en") == 12


def test_the_exemplars_of_mgsm_state_their_numbers(shared):
    """Every worked exemplar of every language states its number in the phrase that is looked for."""
    everything = json.loads((shared / "data" / "mgsm" / "exemplars.json").read_text())
    numbers = everything["EXEMPLAR_NUMBER_ANSWERS"]
    missed = []
    for language in PHRASES:
        for place, exemplar in everything["MGSM_EXEMPLARS"][language].items():
            if stated_number(exemplar["a"], language) != numbers[int(place) - 1]:
                missed.append((language, place))
    assert missed == []


def test_label():
    labels = ["negative", "neutral", "positive", "very positive"]
    assert [label(text, labels) for text in ("Positive", " neutral.", "NEGATIVE!\nmore")] == [2, 1, 0]
    assert label("very positive indeed", labels) == 3
    assert label("positively", labels) is None
    assert label("", labels) is None
    assert label("ポジティブです", ["ネガティブ", "ポジティブ"]) == 1


@pytest.mark.parametrize("language", mmlu_prox.LANGUAGES)
def test_letters_of_mmlu_prox(language):
    """In the words of every language, where the harness's own expression finds the same or nothing."""
    lm_eval = pytest.importorskip("lm_eval.tasks")
    template = f"mmlu_prox/{language}/_{language}_template_yaml"
    text = (Path(lm_eval.__file__).parent / template).read_text("utf-8")
    theirs = re.search("regex_pattern: '(.*)'", text)[1]
    phrase = mmlu_prox.words(language)[5]
    for letter in mmlu_prox.LETTERS:
        for said in (f"({letter})", letter):
            answer = f"1 + 1 = 2. {phrase.replace('({})', said)}"
            for end in ("", ".", "。", "।", "\n", ". Q: ?", "**"):
                assert mmlu_prox.stated_letter(answer + end, language) == letter
                assert re.findall(theirs, answer + end)[0] == letter
    for said, letter in {
        "(b)": "B", "**B**": "B", "**(B)**": "B", "（B）": "B", "( B )": "B",
        "b": None, "a": None, "beta": None, "Beta": None, "Bétise": None, "B\u0323": None, "B12": None, "K": None,
    }.items():  # fmt: skip
        assert mmlu_prox.stated_letter(phrase.replace("({})", said), language) == letter
    tight = phrase.replace(" ({})", "B").replace("({})", "B").replace("B ", "B")
    assert mmlu_prox.stated_letter(tight, language) == "B"
    assert mmlu_prox.stated_letter(phrase.upper().format("C"), language) == "C"
    twice = f"{phrase.format('C')} {phrase.format('D')}"
    assert mmlu_prox.stated_letter(twice, language) == re.findall(theirs, twice)[0] == "C"
    assert mmlu_prox.stated_letter(f"{phrase.replace('({})', 'e')} {phrase.format('D')}", language) == "D"


@pytest.mark.parametrize(
    ("language", "answer", "letter"),
    [
        ("en", "The answer is a prime number, so the answer is (C).", "C"),
        ("en", "The answer is (c), I think.", "C"),
        ("en", "The answer is I.", "I"),
        ("en", "The answer is I", "I"),
        ("en", "The answer is I because both hold.", "I"),
        ("en", "The answer is I think 12, so the answer is (C).", "C"),
        ("en", "The answer is C because of B. The answer is B.", "C"),
        ("en", "The answer is e-mail.", None),
        ("en", "The answer is E-mail.", None),
        ("pt", "A resposta é a letra C.", None),
        ("pt", "A resposta é a letra C. A resposta é (C).", "C"),
        ("fr", "La réponse est D'Alembert. La réponse est (B).", "B"),
        ("de", "Die Antwort ist bekannt: Die Antwort ist B", "B"),
        ("hu", "a válasz B", "B"),
        ("hu", "Mi a válasz\nA megoldás: a válasz (B)", "B"),
        ("ja", "答えはAです。", "A"),
        ("ja", "答えは **A** です。", "A"),
        ("zh", "答案是A。", "A"),
        ("zh", "答案是A因为", "A"),
        ("ko", "따라서 답은 A입니다.", "A"),
        ("th", "คำตอบคือA", "A"),
        ("hi", "उत्तर है A।", "A"),
        ("ru", "ответ - C, так как", "C"),
    ],
)
def test_a_word_is_no_letter(language, answer, letter):
    pytest.importorskip("lm_eval")
    assert mmlu_prox.stated_letter(answer, language) == letter
