"""MSVAMP: short word problems in ten languages, asked like MGSM and with its exemplars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.evaluate.tasks import mgsm
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import located_rows

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "bn": "Bengali", "de": "German", "en": "English", "es": "Spanish", "fr": "French", "ja": "Japanese",
    "ru": "Russian", "sw": "Swahili", "th": "Thai", "zh": "Chinese",
}  # fmt: skip


def _read(path: Path, folder: Path, language: str) -> Splits:
    rows = located_rows(path, [], ["m_query", "response"])
    return {
        "test": [
            mgsm.row(each["m_query"], mgsm.check_number(each["response"], language, where), language)
            for where, each in rows
        ],
        "shots": mgsm.exemplars(folder.parent / "mgsm", language),
    }


def _fetch(dataset: str, config: str, language: str) -> Splits:
    rows = hub_rows(dataset, config, "test")
    where = Location(file=dataset)
    return {
        "test": [
            mgsm.row(each["m_query"], mgsm.check_number(str(each["response"]), language, where), language)
            for each in rows
        ],
        "shots": [
            mgsm.row(each["question"], str(each["answer_number"]), language, each["answer"] or "")
            for each in hub_rows(mgsm.FAMILY.hub, language, "train")
        ],
    }


FAMILY = Family(
    name="msvamp",
    title="short word problems, worked step by step",
    metric="exact_match",
    folders=("msvamp",),
    languages=NAMES,
    file=lambda folder, code: folder / f"test_{NAMES[code]}.json",
    read=_read,
    hub="Mathoctopus/MSVAMP",
    hub_languages={code: code for code in NAMES},
    fetch=_fetch,
)
splits = FAMILY.splits
