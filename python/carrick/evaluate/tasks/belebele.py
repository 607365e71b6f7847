"""Belebele: reading comprehension with four choices, parallel in many languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.errors import ConfigError
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, check_columns, json_lines

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


def from_hub(row: Row) -> Row:
    """Convert a row of the Hub's layout, which a local file may have too."""
    choices = [row[f"mc_answer{place}"] for place in range(1, 5)]
    return _row(row["flores_passage"], row["question"], choices, int(row["correct_answer_num"]) - 1)


def _read(path: Path, folder: Path, language: str) -> Splits:
    del folder, language
    rows = []
    for line, each in enumerate(json_lines(path, []), start=1):
        if "flores_passage" in each:
            check_columns(each, ["question", "correct_answer_num", "mc_answer1", "mc_answer4"], path, line)
            rows.append(from_hub(each))
            continue
        check_columns(each, ["text", "items"], path, line)
        for item in each["items"]:
            right = [place for place, answer in enumerate(item["answers"]) if answer["correct"]]
            if len(right) != 1 or len(item["answers"]) != 4:
                raise ConfigError(
                    f"a question has {len(item['answers'])} answers, {len(right)} of them correct; four and one "
                    "are expected",
                    file=str(path),
                    line=line,
                )
            rows.append(
                _row(each["text"], item["question"], [answer["text"] for answer in item["answers"]], right[0])
            )
    return {"test": rows}


def _fetch(dataset: str, config: str, language: str) -> Splits:
    del language
    return {"test": [from_hub(row) for row in hub_rows(dataset, config, "test")]}


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
