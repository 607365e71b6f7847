"""XCOPA: which of two events is the cause or the effect of another, in eleven languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, as_place, located_lines

if TYPE_CHECKING:
    from pathlib import Path

# "because" and "so", as in the harness.
CONNECTORS = {
    "et": ("sest", "seetõttu"),
    "ht": ("poukisa", "donk sa"),
    "id": ("karena", "maka"),
    "it": ("perché", "quindi"),
    "qu": ("imataq", "chaymi"),
    "sw": ("kwa sababu", "kwa hiyo"),
    "ta": ("காரணமாக", "எனவே"),
    "th": ("เพราะ", "ดังนั้น"),
    "tr": ("çünkü", "bu yüzden"),
    "vi": ("bởi vì", "vì vậy"),
    "zh": ("因为", "所以"),
}
_TEXTS = ("premise", "choice1", "choice2", "question")


def _row(row: Row, language: str, where: Location) -> Row:
    because, so = CONNECTORS[language]
    if row["question"] not in {"cause", "effect"}:
        raise where.error(f"`question` is {row['question']!r}; it is cause or effect")
    connector = because if row["question"] == "cause" else so
    choices = [row["choice1"], row["choice2"]]
    if not all(choices):
        raise where.error("a choice is empty")
    return {
        # The premise without its full stop goes on in the choice, which therefore begins in lower case.
        "opening": f"{row['premise'].strip()[:-1]} {connector}",
        "choices": [choice[0].lower() + choice[1:] for choice in choices],
        "gold": as_place(row["label"], len(choices), "label", where),
    }


def _read(path: Path, folder: Path, language: str) -> Splits:
    shots = folder / language / f"val.{language}.jsonl"
    files = {"test": path, **({"shots": shots} if shots.exists() else {})}
    return {
        name: [_row(row, language, where) for where, row in located_lines(file, ["label"], _TEXTS)]
        for name, file in files.items()
    }


def _fetch(dataset: str, config: str, language: str) -> Splits:
    parts = (("test", "test"), ("shots", "validation"))
    where = Location(file=dataset)
    return {
        name: [_row(row, language, where) for row in hub_rows(dataset, config, split)]
        for name, split in parts
    }


FAMILY = Family(
    name="xcopa",
    title="cause and effect, 2 choices",
    metric="accuracy",
    folders=("xcopa",),
    languages=CONNECTORS,
    file=lambda folder, code: folder / code / f"test.{code}.jsonl",
    read=_read,
    hub="cambridgeltl/xcopa",
    hub_languages={code: code for code in CONNECTORS},
    fetch=_fetch,
)
splits = FAMILY.splits
