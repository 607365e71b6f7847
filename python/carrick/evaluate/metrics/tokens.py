"""Tokens of any language for counts of overlap: words, or characters where a script has no spaces."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Blocks of scripts that are written without spaces between words: each character (with the marks on it) is a
# token. Korean, and the scripts of India, have spaces.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x0F00, 0x0FFF),  # Tibetan
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # iteration and closing marks, zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # small Katakana
    (0x3400, 0x4DBF),  # Han, extension A
    (0x4E00, 0x9FFF),  # Han
    (0xF900, 0xFAFF),  # Han, compatibility
    (0x1B000, 0x1B16F),  # old Kana
    (0x20000, 0x3FFFF),  # Han, the other extensions
)


def tokens(text: str) -> list[str]:
    """Split a text into lower-case words, and into characters where a script has no spaces.

    Compatibility forms are unified first (full-width letters and digits become plain ones), case is folded,
    joiners that show nothing are dropped. Everything that is no letter, digit or mark separates. A mark stays
    with what it stands on, so words of Bengali, Hindi or Telugu stay whole.

    Examples
    --------
    >>> tokens("Größe: 12,5 m²")
    ['grösse', '12', '5', 'm2']
    >>> tokens("猫がいる。"), tokens("แมว อยู่"), tokens("বিড়াল আছে।")
    (['猫', 'が', 'い', 'る'], ['แ', 'ม', 'ว', 'อ', 'ยู่'], ['বিড়াল', 'আছে'])
    """
    return list(_tokens(unicodedata.normalize("NFKC", text).casefold()))


def _tokens(text: str) -> Iterator[str]:
    word, alone = "", False
    for character in text:
        kind = unicodedata.category(character)
        if kind == "Cf":  # joiners and marks of direction
            continue
        if kind[0] == "M" and word:
            word += character
        elif kind[0] in "LN":
            unspaced = _is_unspaced(character)
            if word and (alone or unspaced):
                yield word
                word = ""
            word, alone = word + character, unspaced
        elif word:
            yield word
            word, alone = "", False
    if word:
        yield word


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return code >= _UNSPACED[0][0] and any(low <= code <= high for low, high in _UNSPACED)


class UnicodeTokenizer:
    """What `rouge_score` takes as `tokenizer`, made of `tokens`."""

    def tokenize(self, text: str) -> list[str]:
        """Split a text by `tokens`."""
        return tokens(text)
