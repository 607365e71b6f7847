"""Global-MMLU: knowledge in 57 subjects with four choices, in many languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, located_lines

if TYPE_CHECKING:
    from pathlib import Path

LANGUAGES = (
    "am", "ar", "bn", "cs", "de", "el", "en", "es", "fa", "fil", "fr", "ha", "he", "hi", "id", "ig", "it", "ja",
    "ko", "ky", "lt", "mg", "ms", "ne", "nl", "ny", "pl", "pt", "ro", "ru", "si", "sn", "so", "sr", "sv", "sw",
    "te", "tr", "uk", "vi", "yo", "zh",
)  # fmt: skip
_TEXTS = ("question", "option_a", "option_b", "option_c", "option_d")


def _row(row: Row) -> Row:
    answers = {letter: row[f"option_{letter}"] for letter in "abcd"}
    gold = "ABCD".index(row["answer"])
    return {"question": row["question"].strip(), **answers, "gold": gold, "subject": row.get("subject", "")}


def _files(folder: Path, code: str) -> list[Path]:
    """Files of a language: the one that is asked first (its plain name, or one of test rows), those of dev last."""
    patterns = (f"{code}.json*", f"*_{code}.json*", f"{code}_*.json*")
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(
        found, key=lambda path: (path.stem != code, not _of(path, "test"), _of(path, "dev"), path.name)
    )


def _of(path: Path, split: str) -> bool:
    return split in path.stem.split("_")


def _file(folder: Path, code: str) -> Path:
    return next(iter(_files(folder, code)), folder / f"{code}.jsonl")


def _read(path: Path, folder: Path, language: str) -> Splits:
    # Where there are rows of dev alone, they are what is asked.
    dev = [] if _of(path, "dev") else [each for each in _files(folder, language) if _of(each, "dev")]
    return {"test": _rows(path), "shots": _rows(dev[0]) if dev else []}


def _rows(path: Path) -> list[Row]:
    rows = located_lines(path, ["answer"], _TEXTS)
    for where, each in rows:
        if each["answer"] not in tuple("ABCD"):
            raise where.error(f"the answer is {each['answer']!r}, not A, B, C or D")
    return [_row(each) for _, each in rows]


def _fetch(dataset: str, config: str, language: str) -> Splits:
    del language
    parts = (("test", "test"), ("shots", "dev"))
    return {name: [_row(row) for row in hub_rows(dataset, config, split)] for name, split in parts}


FAMILY = Family(
    name="global_mmlu",
    title="knowledge, 4 choices",
    metric="accuracy",
    folders=("global_mmlu", "global_mmlu_dev"),
    languages=LANGUAGES,
    file=_file,
    read=_read,
    hub="CohereLabs/Global-MMLU",
    hub_languages={code: code for code in LANGUAGES},
    fetch=_fetch,
)
splits = FAMILY.splits
