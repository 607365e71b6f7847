"""Supporting examples: quotes from an input that the model lists, checked against that input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.evaluate.tasks.family import Family, Splits
from carrick.evaluate.tasks.files import as_text, located_lines
from carrick.evaluate.tasks.summarisation import LANGUAGES

if TYPE_CHECKING:
    from pathlib import Path

INSTRUCTION = (
    "List the main themes of the text above with examples that are quoted from it word for word, one a line."
)


def _read(path: Path, folder: Path, language: str) -> Splits:
    del folder, language
    rows = []
    for where, row in located_lines(path, ["input"]):
        parts = row["input"] if isinstance(row["input"], list) else [row["input"]]
        instruction = as_text(row.get("instruction", INSTRUCTION), "instruction", where)
        rows.append({"input": [as_text(part, "input", where) for part in parts], "instruction": instruction})
    return {"test": rows}


FAMILY = Family(
    name="supporting_examples",
    title="quotes that the input does not have",
    metric="hallucination",
    folders=("supporting_examples",),
    languages=(*LANGUAGES, "mix"),
    file=lambda folder, code: folder / f"{code}.jsonl",
    read=_read,
)
splits = FAMILY.splits
