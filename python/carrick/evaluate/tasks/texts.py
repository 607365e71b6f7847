"""Texts whose perplexity is taken: one file a language, of lines or of JSON lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.evaluate.tasks.belebele import FLORES
from carrick.evaluate.tasks.family import Family, Splits
from carrick.evaluate.tasks.files import json_lines, refuse_none, text_lines

if TYPE_CHECKING:
    from pathlib import Path


def _file(folder: Path, code: str) -> Path:
    lines = folder / f"{code}.txt"
    return lines if lines.exists() else folder / f"{code}.jsonl"


def _read(path: Path, folder: Path, language: str) -> Splits:
    del folder, language
    if path.suffix == ".txt":
        lines = [{"text": line} for line in text_lines(path) if line.strip()]
        refuse_none(lines, path)
        return {"test": lines}
    return {"test": [{"text": row["text"]} for row in json_lines(path, [], ["text"])]}


FAMILY = Family(
    name="perplexity",
    title="perplexity of texts, a line or a row each",
    metric="perplexity",
    folders=("texts",),
    languages=FLORES,
    file=_file,
    read=_read,
)
