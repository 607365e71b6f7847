"""Texts of the data folder, by source: general texts, English math, and the math tests kept out of training."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BELEBELE = {"en": "eng_Latn", "de": "deu_Latn"}
TWEETS = {
    "en": "english",
    "de": "german",
    "fr": "french",
    "es": "spanish",
    "it": "italian",
    "pt": "portuguese",
}
XCOPA = ("it", "id", "tr", "vi")
MGSM = ("de", "en", "es", "fr")
MSVAMP = {"de": "German", "en": "English", "es": "Spanish"}
_MOODS = ("negativ", "neutral", "positiv")  # of the labels 0, 1, 2
_CALCULATION = re.compile(r"<<[^>]*>>")


FOLDERS = ("belebele_en_de", "xlmt_sentiment", "xcopa", "global_mmlu_dev", "gsm8k", "mgsm", "msvamp")


def passages(data: Path, language: str) -> list[str]:
    """Return Belebele's passages, each followed by its questions and their right answers."""
    texts = []
    for row in _json_lines(data / "belebele_en_de" / f"{BELEBELE[language]}.jsonl"):
        lines = [row["text"].replace("\n", " ")]
        for item in row["items"]:
            right = next(answer["text"] for answer in item["answers"] if answer["correct"])
            lines.append(f"{item['question']} {right}")
        texts.append("\n".join(lines))
    return texts


def tweets(data: Path, language: str) -> list[str]:
    """Return the tweets of a language, all splits, one text each."""
    folder = data / "xlmt_sentiment" / TWEETS[language]
    texts: list[str] = []
    for split in ("train", "val", "test"):
        texts += [line for line in _text(folder / f"{split}_text.txt").split("\n") if line.strip()]
    return texts


def german_passages(data: Path) -> list[tuple[str, str]]:
    """Return German passages as pairs: with their questions and answers, and alone."""
    rows = passages(data, "de")
    return [(row, row.split("\n")[0]) for row in rows]


def german_tweets(data: Path) -> list[tuple[str, str]]:
    """Return German tweets as pairs: with the word for their mood, and alone."""
    folder = data / "xlmt_sentiment" / TWEETS["de"]
    rows = []
    for split in ("train", "val", "test"):
        lines = _text(folder / f"{split}_text.txt").split("\n")
        labels = _text(folder / f"{split}_labels.txt").split("\n")
        for line, label in zip(lines, labels, strict=False):
            if line.strip():
                rows.append((f"{line}\nStimmung: {_MOODS[int(label)]}", line))
    return rows


def other_general(data: Path) -> list[str]:
    """Return English exam questions and short causes and effects in other languages with Latin letters."""
    texts = []
    for row in _json_lines(data / "global_mmlu_dev" / "global_mmlu_dev_en.json"):
        options = " ".join(str(row[f"option_{letter}"]) for letter in "abcd")
        texts.append(f"{row['question']} {options}")
    for code in XCOPA:
        for split in ("val", "test"):
            rows = _json_lines(data / "xcopa" / code / f"{split}.{code}.jsonl")
            texts += [f"{row['premise']} {row['choice1']} {row['choice2']}" for row in rows]
    return texts


def gsm8k(data: Path, split: str) -> list[str]:
    """Return GSM8K's problems with their solutions, without the calculator's marks ``<<…>>``."""
    rows = _json_lines(data / "gsm8k" / f"{split}.jsonl")
    return [f"{row['question']}\n{_CALCULATION.sub('', row['answer'])}" for row in rows]


def gsm8k_questions(data: Path, split: str) -> list[str]:
    """Return GSM8K's problems alone."""
    return [str(row["question"]) for row in _json_lines(data / "gsm8k" / f"{split}.jsonl")]


def mgsm(data: Path, language: str) -> list[str]:
    """Return MGSM's problems in one language."""
    lines = _text(data / "mgsm" / f"mgsm_{language}.tsv").split("\n")
    return [line.split("\t")[0] for line in lines if line.strip()]


def msvamp(data: Path, language: str) -> list[str]:
    """Return MSVAMP's problems in one language."""
    return [str(row["m_query"]) for row in _json_lines(data / "msvamp" / f"test_{MSVAMP[language]}.json")]


def math_tests(data: Path) -> list[str]:
    """Return every problem that no training text and no tokenizer may see."""
    tests = gsm8k_questions(data, "test")
    for language in MGSM:
        tests += mgsm(data, language)
    for language in MSVAMP:
        tests += msvamp(data, language)
    return tests


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except json.JSONDecodeError as error:
                raise ConfigError(f"{path}:{number}: the line is not JSON ({error.msg})") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: there is no such file; the study reads it from the folder given with --data"
        ) from None
