"""Numbers and labels in generated answers: what was answered, and whether it is the right one."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING

from carrick.evaluate.metrics.tokens import tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

# How an answer of MGSM ends in each language, as its exemplars (and lm-evaluation-harness) have it. The
# harness looks for the English words in Bengali, where the exemplars say উত্তর হল, and misses "Die Antwort ist".
PHRASES = {
    "bn": r"উত্তর\s*(?:হল|হলো|হচ্ছে|:)",
    "de": r"Die Antwort (?:lautet|ist)",
    "en": r"The answer is",
    "es": r"La respuesta es",
    "fr": r"La réponse est",
    "ja": r"答えは",
    "ru": r"Ответ\s*[—–:-]",
    "sw": r"Jibu ni",
    "te": r"సమాధానం",
    "th": r"คำตอบคือ",
    "zh": r"答案是",
}
# Languages whose decimals stand behind a comma: a point before three digits separates thousands there.
_DECIMAL_COMMA = frozenset({"cs", "de", "es", "fr", "id", "it", "nl", "pl", "pt", "ru", "tr", "vi"})
_INDIAN_GROUPS = frozenset({"bn", "hi", "te"})  # 1,25,000
_UNBROKEN = "\u00a0\u202f\u2009"  # no-break and thin spaces
_MONEY = r"[$€£¥₹]?"


def _pattern(language: str) -> str:
    """Regular expression of a number; where decimals have a comma, a plain space separates thousands too."""
    spaces = _UNBROKEN + (" " if language in _DECIMAL_COMMA else "")
    return rf"-?\d(?:[\d.,]|[{spaces}](?=\d{{3}}(?!\d)))*"


def _plain(text: str) -> str:
    """Digits of every script and full-width signs as ASCII; a thin or no-break space stays what it is."""
    kept = []
    for character in text:
        digit = unicodedata.digit(character, None) if not character.isascii() else None
        if character in "−﹣－":
            kept.append("-")
        elif digit is not None and unicodedata.category(character) == "Nd":
            kept.append(str(digit))
        else:
            kept.append(
                {"，": ",", "．": ".", "＄": "$", "：": ":", "٫": ".", "٬": ","}.get(character, character)
            )
    return "".join(kept)


def number(text: str, language: str = "en") -> Decimal | None:
    """Read one number as it is written in a language, or None.

    A comma before groups of three digits separates thousands in every language (MGSM's own answers are
    written so in all of them). A point does so where decimals stand behind a comma (de, es, fr, …), and there a
    comma before other groups is the decimal one. Spaces separate thousands. Signs of currency and a trailing
    point are dropped.

    Parameters
    ----------
    text
        The number and nothing else.
    language
        Code of the language.

    Notes
    -----
    lm-evaluation-harness deletes all punctuation from both sides instead, so that for it "21.25" equals
    "2125", and "-5" equals "5".

    Examples
    --------
    >>> number("2,125"), number("21.25"), number("2.125", "de"), number("1,25,000", "bn"), number("$18.")
    (Decimal('2125'), Decimal('21.25'), Decimal('2125'), Decimal('125000'), Decimal('18'))
    >>> number("21,25", "de"), number("12,5"), number("1.2.3")
    (Decimal('21.25'), None, None)
    """
    plain = _plain(text).strip().rstrip(".,").replace("$", "")
    plain = re.sub(rf"^(-?){_MONEY}", r"\1", plain)
    plain = re.sub(rf"(?<=\d)[ {_UNBROKEN}](?=\d{{3}}(?!\d))", "", plain)
    if re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", plain) or (
        language in _INDIAN_GROUPS and re.fullmatch(r"-?\d{1,2}(,\d{2})*,\d{3}(\.\d+)?", plain)
    ):
        plain = plain.replace(",", "")
    elif language in _DECIMAL_COMMA and re.fullmatch(r"-?\d{1,3}(\.\d{3})+(,\d+)?", plain):
        plain = plain.replace(".", "").replace(",", ".")
    elif language in _DECIMAL_COMMA and re.fullmatch(r"-?\d+,\d+", plain):
        plain = plain.replace(",", ".")
    return Decimal(plain) if re.fullmatch(r"-?\d+(\.\d+)?", plain) else None


def stated_number(answer: str, language: str) -> Decimal | None:
    """Return the number behind the language's "The answer is", the first time it is said, or None.

    Examples
    --------
    >>> stated_number("5 + 6 = 11. Die Antwort lautet 2.125 Euro. Frage: 7", "de")
    Decimal('2125')
    >>> stated_number("5 + 6 = 11", "en") is None
    True
    """
    phrase = PHRASES.get(language)
    if phrase is None:
        return None
    # Unlike the harness: white space is free, a sign of currency may stand before the number, digits may be
    # the language's own, and what follows it (a unit, です, 。) does not matter.
    found = re.search(rf"{phrase}[\s:*]*(-?{_MONEY}{_pattern(language)})", _plain(answer), re.IGNORECASE)
    return number(found[1], language) if found else None


def last_number(answer: str, language: str) -> Decimal | None:
    """Return the last number of an answer, whatever stands around it, or None.

    Examples
    --------
    >>> last_number("First 12, then 2,125 dollars.", "en")
    Decimal('2125')
    """
    for found in reversed(re.findall(rf"(?<![\d.,]){_pattern(language)}", _plain(answer))):
        value = number(found, language)
        if value is not None:
            return value
    return None


def label(answer: str, labels: Sequence[str]) -> int | None:
    """Return which label an answer begins with, or None when it is none of them.

    Case, punctuation and what follows the label do not matter; the longest label that fits counts.

    Examples
    --------
    >>> label("Positive. I think", ["negative", "positive"]), label("great", ["negative", "positive"])
    (1, None)
    """
    said = tokens(answer)
    fitting = [
        (len(words), place)
        for place, words in enumerate(map(tokens, labels))
        if words and said[: len(words)] == words
    ]
    return max(fitting)[1] if fitting else None
