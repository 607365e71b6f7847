"""Belebele: reading comprehension with four choices, parallel in many languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, as_place, as_text, check_columns, located_lines

if TYPE_CHECKING:
    from pathlib import Path

FLORES = {
    "ar": "arb_Arab", "bg": "bul_Cyrl", "bn": "ben_Beng", "cs": "ces_Latn", "de": "deu_Latn", "el": "ell_Grek",
    "en": "eng_Latn", "es": "spa_Latn", "et": "est_Latn", "fi": "fin_Latn", "fr": "fra_Latn", "hi": "hin_Deva",
    "ht": "hat_Latn", "hu": "hun_Latn", "id": "ind_Latn", "it": "ita_Latn", "ja": "jpn_Jpan", "ko": "kor_Hang",
    "nl": "nld_Latn", "pl": "pol_Latn", "pt": "por_Latn", "ro": "ron_Latn", "ru": "rus_Cyrl", "sv": "swe_Latn",
    "sw": "swh_Latn", "ta": "tam_Taml", "te": "tel_Telu", "th": "tha_Thai", "tr": "tur_Latn", "uk": "ukr_Cyrl",
    "ur": "urd_Arab", "vi": "vie_Latn", "yo": "yor_Latn", "zh": "zho_Hans", "zu": "zul_Latn",
}  # fmt: skip


def _row(passage: str, question: str, choices: list[str], gold: int) -> Row:
    answers = dict(zip(("a", "b", "c", "d"), choices, strict=True))
    return {"passage": passage, "question": question.strip(), **answers, "gold": gold}


def from_hub(row: Row, where: Location) -> Row:
    """Convert a row of the Hub's layout, which a local file may have too."""
    texts = ["flores_passage", "question", *(f"mc_answer{place}" for place in range(1, 5))]
    check_columns(row, [*texts, "correct_answer_num"], where)
    passage, question, *choices = (as_text(row[name], name, where) for name in texts)
    gold = as_place(row["correct_answer_num"], len(choices), "correct_answer_num", where, first=1)
    return _row(passage, question, choices, gold)


def _of_passage(row: Row, where: Location) -> list[Row]:
    """Return the questions of a row that holds a passage and all that is asked of it."""
    check_columns(row, ["text", "items"], where)
    passage = as_text(row["text"], "text", where)
    try:
        return [_asked(passage, item, where) for item in row["items"]]
    except (KeyError, TypeError):
        raise where.error(
            "`items` is no list of questions, each with `question` and `answers`, each answer with `text` and `correct`"
        ) from None


def _asked(passage: str, item: Row, where: Location) -> Row:
    answers = item["answers"]
    right = [place for place, answer in enumerate(answers) if answer["correct"]]
    if len(right) != 1 or len(answers) != 4:
        raise where.error(
            f"a question has {len(answers)} answers, {len(right)} of them correct; four and one are expected"
        )
    choices = [as_text(answer["text"], "items.answers.text", where) for answer in answers]
    return _row(passage, as_text(item["question"], "items.question", where), choices, right[0])


def _read(path: Path, folder: Path, language: str) -> Splits:
    del folder, language
    rows: list[Row] = []
    for where, each in located_lines(path, []):
        rows += [from_hub(each, where)] if "flores_passage" in each else _of_passage(each, where)
    return {"test": rows}


def _fetch(dataset: str, config: str, language: str) -> Splits:
    del language
    where = Location(file=dataset)
    return {"test": [from_hub(row, where) for row in hub_rows(dataset, config, "test")]}


FAMILY = Family(
    name="belebele",
    title="reading comprehension, 4 choices",
    metric="accuracy",
    folders=("belebele", "belebele_en_de"),
    languages=FLORES,
    file=lambda folder, code: folder / f"{FLORES[code]}.jsonl",
    read=_read,
    hub="facebook/belebele",
    hub_languages=FLORES,
    fetch=_fetch,
)
splits = FAMILY.splits
