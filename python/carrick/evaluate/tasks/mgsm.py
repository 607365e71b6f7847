"""MGSM: mathematics word problems in eleven languages, answered step by step or at once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.errors import ConfigError
from carrick.evaluate.metrics.answers import last_number, number, stated_number
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, tab_separated, text_lines

if TYPE_CHECKING:
    from pathlib import Path

# The words for "Question:", with the space behind it where there is one, and for "Step-by-Step Answer:", as
# the exemplars have them. The harness's are the same but for Russian (a missing space), Japanese and Chinese
# (a space, and a plain colon in the second).
WORDS = {
    "bn": ("প্রশ্ন: ", "ধাপে ধাপে উত্তর:"),
    "de": ("Frage: ", "Schritt-für-Schritt-Antwort:"),
    "en": ("Question: ", "Step-by-Step Answer:"),
    "es": ("Pregunta: ", "Respuesta paso a paso:"),
    "fr": ("Question : ", "Réponse étape par étape :"),
    "ja": ("問題：", "ステップごとの答え："),
    "ru": ("Задача: ", "Пошаговое решение:"),
    "sw": ("Swali: ", "Jibu la Hatua kwa Hatua:"),
    "te": ("ప్రశ్న: ", "దశలవారీగా సమాధానం:"),
    "th": ("โจทย์: ", "คำตอบทีละขั้นตอน:"),
    "zh": ("问题：", "逐步解答："),
}
EXEMPLARS = "exemplars.json"


def row(question: str, answer_number: str, language: str, answer: str = "") -> Row:
    """Return a row as the YAML reads it; `answer` is the worked one of an exemplar."""
    ask, reply = WORDS[language]
    return {
        "language": language,
        "question": question.removeprefix(ask).strip(),
        "ask": ask,
        "reply": reply,
        "answer_number": answer_number,
        "worked": answer.removeprefix(reply).strip() or answer_number,
    }


def check_number(answer: str, language: str, where: Location) -> str:
    """Return a right answer, which has to be a number: an answer without any would be equal to it.

    Raises
    ------
    ConfigError
        It is none.
    """
    if number(answer, language) is None:
        raise where.error(f"the answer `{answer}` is no number")
    return answer


def exemplars(folder: Path, language: str) -> list[Row]:
    """Return the eight worked exemplars of a language; none where their file is not there.

    Raises
    ------
    ConfigError
        The file does not hold what it should.
    """
    path = folder / EXEMPLARS
    if not path.is_file():
        return []
    try:
        everything = json.loads("\n".join(text_lines(path)))
        numbers = everything["EXEMPLAR_NUMBER_ANSWERS"]
        shots = everything["MGSM_EXEMPLARS"].get(language, {})
        return [
            row(shot["q"], str(numbers[int(place) - 1]), language, shot["a"]) for place, shot in shots.items()
        ]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ConfigError(
            f"this is no file of MGSM's exemplars ({type(error).__name__}: {error})", file=str(path)
        ) from None


def _read(path: Path, folder: Path, language: str) -> Splits:
    rows = tab_separated(path, ["question", "answer_number"])
    for line, each in enumerate(rows, start=1):
        check_number(each["answer_number"], language, Location(file=str(path), line=line))
    test = [row(each["question"], each["answer_number"], language) for each in rows]
    return {"test": test, "shots": exemplars(folder, language)}


def _fetch(dataset: str, config: str, language: str) -> Splits:
    where = Location(file=dataset)
    return {
        name: [
            row(
                each["question"],
                check_number(str(each["answer_number"]), language, where),
                language,
                each["answer"] or "",
            )
            for each in hub_rows(dataset, config, split)
        ]
        for name, split in (("test", "test"), ("shots", "train"))
    }


def _family(name: str, title: str) -> Family:
    return Family(
        name=name,
        title=title,
        metric="exact_match",
        folders=("mgsm",),
        languages=WORDS,
        file=lambda folder, code: folder / f"mgsm_{code}.tsv",
        read=_read,
        hub="juletxara/mgsm",
        hub_languages={code: code for code in WORDS},
        fetch=_fetch,
    )


FAMILY = _family("mgsm", "word problems, worked step by step")
DIRECT = _family("mgsm_direct", "word problems, the number alone")
splits = FAMILY.splits


def score(doc: Row, results: list[str]) -> dict[str, float]:
    """Score one worked answer.

    ``exact_match`` takes the number behind the language's "The answer is", ``flexible_match`` the last number
    of the answer; both compare values (2,125 = 2125, 21.25 ≠ 2125).
    """
    language, answer = doc["language"], results[0]
    right = number(doc["answer_number"], language)
    return {
        "exact_match": float(stated_number(answer, language) == right),
        "flexible_match": float(last_number(answer, language) == right),
    }


def score_direct(doc: Row, results: list[str]) -> dict[str, float]:
    """Score an answer that should be the number alone: ``exact_match`` takes the answer's last number."""
    language = doc["language"]
    right = number(doc["answer_number"], language)
    return {"exact_match": float(last_number(results[0], language) == right)}
