"""GSM8K: mathematics word problems in English."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from carrick.evaluate.metrics.answers import last_number, number
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, located_lines

if TYPE_CHECKING:
    from pathlib import Path

_STATED = re.compile(r"####\s*(-?[$]?[\d.,]+)")


def row(question: str, answer: str) -> Row:
    """Return a row as the YAML reads it, without the calculator's <<3+4=7>>."""
    worked, _, right = answer.rpartition("####")
    return {
        "question": question,
        "worked": re.sub(r"<<[^>]*>>", "", worked) + f"#### {right.strip()}",
        "answer_number": right.strip(),
    }


def _read(path: Path, folder: Path, language: str) -> Splits:
    del language
    train = folder / "train.jsonl"
    return {"test": _rows(path), "shots": _rows(train) if train.exists() else []}


def _rows(path: Path) -> list[Row]:
    rows = []
    for where, each in located_lines(path, [], ["question", "answer"]):
        if number(each["answer"].rpartition("####")[2]) is None or "####" not in each["answer"]:
            raise where.error("the answer does not end in `#### ` and a number")
        rows.append(row(each["question"], each["answer"]))
    return rows


def _fetch(dataset: str, config: str, language: str) -> Splits:
    del language
    return {
        name: [row(each["question"], each["answer"]) for each in hub_rows(dataset, config, split)]
        for name, split in (("test", "test"), ("shots", "train"))
    }


FAMILY = Family(
    name="gsm8k",
    title="word problems in English",
    metric="exact_match",
    folders=("gsm8k",),
    languages=("en",),
    file=lambda folder, _: folder / "test.jsonl",
    read=_read,
    hub="openai/gsm8k",
    hub_languages={"en": "main"},
    fetch=_fetch,
)
splits = FAMILY.splits


def score(doc: Row, results: list[str]) -> dict[str, float]:
    """Score one worked answer: the number behind ``####``, and the last number of all."""
    right = number(doc["answer_number"])
    stated = _STATED.search(results[0])
    return {
        "exact_match": float(stated is not None and number(stated[1]) == right),
        "flexible_match": float(last_number(results[0], "en") == right),
    }
