"""Commonsense questions with five choices: JCommonsenseQA (Japanese), and mCSQA (eight languages)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.errors import ConfigError
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, json_lines

if TYPE_CHECKING:
    from pathlib import Path

_LETTERS = "ABCDE"
_MCSQA = ("de", "en", "fr", "ja", "nl", "pt", "ru", "zh")


def _row(question: str, choices: list[str], gold: int) -> Row:
    return {"question": question.strip(), **dict(zip("abcde", choices, strict=True)), "gold": gold}


def _japanese(row: Row) -> Row:
    return _row(row["question"], [row[f"choice{place}"] for place in range(5)], int(row["label"]))


def _mcsqa(row: Row) -> Row:
    return _row(
        row["question"], list(row["choices"]["text"]), list(row["choices"]["label"]).index(row["answerKey"])
    )


def _read_japanese(path: Path, folder: Path, language: str) -> Splits:
    del language
    columns = ["question", *(f"choice{place}" for place in range(5)), "label"]
    test = [_japanese(row) for row in json_lines(path, columns)]
    train = sorted(folder.glob("train*.json*"))
    return {"test": test, "shots": [_japanese(row) for row in json_lines(train[0], columns)] if train else []}


def _japanese_file(folder: Path, code: str) -> Path:
    del code
    # The published test file is complete; the validation file, which most results are of, comes first.
    found = [*sorted(folder.glob("valid*.json*")), *sorted(folder.glob("test*.json*"))]
    return found[0] if found else folder / "valid-v1.3.json"


def _fetch_japanese(dataset: str, config: str, language: str) -> Splits:
    del language
    parts = (("test", "validation"), ("shots", "train"))
    return {name: [_japanese(row) for row in hub_rows(dataset, config, split)] for name, split in parts}


def _read_mcsqa(path: Path, folder: Path, language: str) -> Splits:
    rows = {"test": path, "shots": folder / f"{language}_train.jsonl"}
    splits = {}
    for name, file in rows.items():
        if name == "shots" and not file.exists():
            continue
        found = json_lines(file, ["question", "choices", "answerKey"])
        for line, row in enumerate(found, start=1):
            if (
                len(row["choices"]["text"]) != len(_LETTERS)
                or row["answerKey"] not in row["choices"]["label"]
            ):
                raise ConfigError(
                    "the row has not five choices with its answerKey among them", file=str(file), line=line
                )
        splits[name] = [_mcsqa(row) for row in found]
    return splits


def _fetch_mcsqa(dataset: str, config: str, language: str) -> Splits:
    del language
    parts = (("test", "test"), ("shots", "train"))
    return {name: [_mcsqa(row) for row in hub_rows(dataset, config, split)] for name, split in parts}


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
