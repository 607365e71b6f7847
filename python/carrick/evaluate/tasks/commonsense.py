"""Commonsense questions with five choices: JCommonsenseQA (Japanese), and mCSQA (eight languages)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, as_place, as_text, located_lines

if TYPE_CHECKING:
    from pathlib import Path

_LETTERS = "ABCDE"
_MCSQA = ("de", "en", "fr", "ja", "nl", "pt", "ru", "zh")


def _row(question: str, choices: list[str], gold: int) -> Row:
    return {"question": question.strip(), **dict(zip("abcde", choices, strict=True)), "gold": gold}


def _japanese(row: Row, where: Location) -> Row:
    gold = as_place(row["label"], len(_LETTERS), "label", where)
    return _row(row["question"], [row[f"choice{place}"] for place in range(5)], gold)


def _mcsqa(row: Row, where: Location) -> Row:
    choices = row["choices"]
    given = choices if isinstance(choices, dict) else {}
    texts, letters = (
        [*each] if isinstance(each := given.get(name), list) else [] for name in ("text", "label")
    )
    if len(texts) != len(_LETTERS) or row["answerKey"] not in letters[: len(_LETTERS)]:
        raise where.error("the row has not five choices with its answerKey among them")
    named = [as_text(text, "choices.text", where) for text in texts]
    return _row(row["question"], named, letters.index(row["answerKey"]))


def _read_japanese(path: Path, folder: Path, language: str) -> Splits:
    del language
    texts = ["question", *(f"choice{place}" for place in range(5))]
    files = {"test": [path], "shots": sorted(folder.glob("train*.json*"))[:1]}
    return {
        name: [_japanese(row, where) for file in some for where, row in located_lines(file, ["label"], texts)]
        for name, some in files.items()
    }


def _japanese_file(folder: Path, code: str) -> Path:
    del code
    # The published test file is complete; the validation file, which most results are of, comes first.
    found = [*sorted(folder.glob("valid*.json*")), *sorted(folder.glob("test*.json*"))]
    return found[0] if found else folder / "valid-v1.3.json"


def _fetch_japanese(dataset: str, config: str, language: str) -> Splits:
    del language
    parts = (("test", "validation"), ("shots", "train"))
    where = Location(file=dataset)
    return {
        name: [_japanese(row, where) for row in hub_rows(dataset, config, split)] for name, split in parts
    }


def _read_mcsqa(path: Path, folder: Path, language: str) -> Splits:
    files = {"test": path, "shots": folder / f"{language}_train.jsonl"}
    return {
        name: [
            _mcsqa(row, where) for where, row in located_lines(file, ["choices", "answerKey"], ["question"])
        ]
        for name, file in files.items()
        if name == "test" or file.exists()
    }


def _fetch_mcsqa(dataset: str, config: str, language: str) -> Splits:
    del language
    parts = (("test", "test"), ("shots", "train"))
    where = Location(file=dataset)
    return {name: [_mcsqa(row, where) for row in hub_rows(dataset, config, split)] for name, split in parts}


JCOMMONSENSEQA = Family(
    name="jcommonsenseqa",
    title="commonsense in Japanese, 5 choices",
    metric="accuracy",
    folders=("jcommonsenseqa",),
    languages=("ja",),
    file=_japanese_file,
    read=_read_japanese,
    hub="sbintuitions/JCommonsenseQA",
    hub_languages={"ja": "default"},
    fetch=_fetch_japanese,
)
MCSQA = Family(
    name="mcsqa",
    title="commonsense, 5 choices",
    metric="accuracy",
    folders=("mcsqa",),
    languages=_MCSQA,
    file=lambda folder, code: folder / f"{code}.jsonl",
    read=_read_mcsqa,
    hub="yusuke1997/mCSQA",
    hub_languages={code: code for code in _MCSQA},
    fetch=_fetch_mcsqa,
)
jcommonsenseqa = JCOMMONSENSEQA.splits
mcsqa = MCSQA.splits
