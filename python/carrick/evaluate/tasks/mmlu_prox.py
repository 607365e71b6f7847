"""MMLU-ProX: harder knowledge questions with up to ten choices, answered step by step."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.errors import ConfigError
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, as_text, check_columns, located_lines

if TYPE_CHECKING:
    from pathlib import Path

LETTERS = "ABCDEFGHIJ"
LANGUAGES = (
    "af", "ar", "bn", "cs", "de", "en", "es", "fr", "hi", "hu", "id", "it", "ja", "ko", "mr", "ne", "pt", "ru",
    "sr", "sw", "te", "th", "uk", "ur", "vi", "wo", "yo", "zh", "zu",
)  # fmt: skip


def words(language: str) -> list[str]:
    """Return the harness's own words for a language.

    They stand for Question, Options, Answer, the instruction, A (of worked shots), and "the answer is ({})".
    """
    from lm_eval.tasks.mmlu_prox.lang_libs import LANG_LIBS  # noqa: PLC0415  (an extra)

    return list(LANG_LIBS[language])


def row(given: Row, language: str) -> Row:
    """Return a row as the YAML reads it."""
    ask, choose, reply, instruction, spoken, suffix = words(language)
    options = [given.get(f"option_{place}") for place in range(len(LETTERS))]
    listed = [f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=True) if text is not None]
    return {
        "language": language,
        "instruction": instruction.format(subject=given.get("category", ""), ans_suffix=suffix.format("X")),
        "problem": "\n".join([ask, given["question"], choose, *listed]),
        "reply": reply,
        "worked": (given.get("cot_content") or "").replace(spoken, "").strip(),
        # A shot without a worked answer states its letter as an answer has to.
        "stated": stated(given["answer"], language),
        "answer": given["answer"],
    }


def _checked(given: Row, language: str, where: Location) -> Row:
    check_columns(given, ["question", "option_0", "answer"], where)
    if given["answer"] not in tuple(LETTERS):
        raise where.error(f"the answer is {given['answer']!r}, not a letter from A to J")
    return row({**given, "question": as_text(given["question"], "question", where)}, language)


def stated(letter: str, language: str) -> str:
    """Return a letter in the words that `stated_letter` looks for, in German "Die Antwort ist (B)"."""
    return words(language)[5].format(letter)


def _file(folder: Path, code: str) -> Path:
    arrow = folder / "data-00000-of-00001.arrow"
    return arrow if folder.name.endswith(f"_{code}") else folder / f"{code}.jsonl"


def _read(path: Path, folder: Path, language: str) -> Splits:
    files = [path, folder / f"{language}_validation.jsonl"]
    test, shots = (
        [_checked(each, language, where) for where, each in _located(file)] if file.exists() else []
        for file in files
    )
    return {"test": test, "shots": shots}


def _located(path: Path) -> list[tuple[Location, Row]]:
    if path.suffix != ".arrow":
        return located_lines(path, [])
    from datasets import Dataset  # noqa: PLC0415  (an extra)

    try:
        rows = Dataset.from_file(str(path))
    except (OSError, ValueError) as error:  # pyarrow's are of these kinds
        raise ConfigError(
            f"this is no Arrow file of the datasets library ({error})", file=str(path)
        ) from None
    return [(Location(file=str(path), line=number), dict(each)) for number, each in enumerate(rows, start=1)]


def _fetch(dataset: str, config: str, language: str) -> Splits:
    parts = (("test", "test"), ("shots", "validation"))
    where = Location(file=dataset)
    return {
        name: [_checked(each, language, where) for each in hub_rows(dataset, config, split)]
        for name, split in parts
    }


FAMILY = Family(
    name="mmlu_prox",
    title="harder knowledge, up to 10 choices",
    metric="exact_match",
    folders=("mmlu_prox", "mmlu_prox_lite", "mmlu_prox_lite_en"),
    languages=LANGUAGES,
    file=_file,
    read=_read,
    hub="li-lab/MMLU-ProX",
    hub_languages={code: code for code in LANGUAGES},
    fetch=_fetch,
)
splits = FAMILY.splits


# What makes a letter the beginning of a word: letters and digits of Latin script, marks on them, d'une, e-mail. Those
# of other scripts follow without a space (답은 A입니다), so that \b would miss them.
_WORD = r"[-'’]?[0-9A-Za-zÀ-ɏ\u0300-\u036fḀ-ỿ]"
_BRACKETED = r"[(（]\s*(?P<bracketed>[A-Ja-j])\s*[)）]"
# "The answer is I think (B)" states I as a last resort alone.
_BARE = (rf"[(（]?(?P<bare>{letters})(?!{_WORD})[)）]?" for letters in (r"(?!I\s+[a-z])[A-J]", "[A-J]"))
_AROUND = r"[ \t\u00a0\u3000*]*"  # a new line is a new sentence
_LETTER = tuple(rf"{_AROUND}(?:{_BRACKETED}|{bare}){_AROUND}" for bare in _BARE)


def stated_letter(answer: str, language: str) -> str | None:
    """Return the letter behind the language's "the answer is", the first time it is said, or None.

    The case of the words does not matter. The letter is a capital, as in the harness, or stands in brackets.
    """
    before, after = (re.escape(part.strip()) for part in words(language)[5].split("({})"))
    for letter in _LETTER:
        found = re.search(f"(?i:{before}){letter}(?i:{after})", answer)
        if found:
            return (found["bracketed"] or found["bare"]).upper()
    return None


def score(doc: Row, results: list[str]) -> dict[str, float]:
    """Score one worked answer by its letter; one without a letter is wrong, and counted as such."""
    letter = stated_letter(results[0], doc["language"])
    return {"exact_match": float(letter == doc["answer"]), "outside": float(letter is None)}
