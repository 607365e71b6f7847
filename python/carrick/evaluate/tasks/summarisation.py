"""Summaries of texts: JSONL files in the style of WikiLingua or XL-Sum, one a language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, as_text, located_lines

if TYPE_CHECKING:
    from pathlib import Path

XLSUM = {
    "ar": "arabic", "bn": "bengali", "en": "english", "es": "spanish", "fr": "french", "hi": "hindi",
    "id": "indonesian", "ja": "japanese", "ko": "korean", "pt": "portuguese", "ru": "russian", "sw": "swahili",
    "te": "telugu", "th": "thai", "tr": "turkish", "uk": "ukrainian", "ur": "urdu", "vi": "vietnamese",
    "yo": "yoruba", "zh": "chinese_simplified",
}  # fmt: skip
LANGUAGES = (*XLSUM, "cs", "de", "it", "nl")
_ARTICLE = ("article", "text", "document")


def _rows(path: Path) -> list[Row]:
    rows = []
    for where, row in located_lines(path, [], ["summary"]):
        name = next((name for name in _ARTICLE if name in row), None)
        if name is None:
            raise where.error(
                f"the row has no column {', '.join(_ARTICLE[:-1])} or {_ARTICLE[-1]}; its columns are "
                f"{', '.join(row)}"
            )
        rows.append({"article": as_text(row[name], name, where), "summary": row["summary"]})
    return rows


def _read(path: Path, folder: Path, language: str) -> Splits:
    train = folder / f"{language}_train.jsonl"
    return {"test": _rows(path), "shots": _rows(train) if train.exists() else []}


def _fetch(dataset: str, config: str, language: str) -> Splits:
    del language
    return {
        name: [
            {"article": row["text"], "summary": row["summary"]} for row in hub_rows(dataset, config, split)
        ]
        for name, split in (("test", "test"), ("shots", "train"))
    }


FAMILY = Family(
    name="summarisation",
    title="summaries, by ROUGE and BERTScore",
    metric="rougeL",
    folders=("summarisation", "summarization", "wikilingua", "xlsum"),
    languages=LANGUAGES,
    file=lambda folder, code: folder / f"{code}.jsonl",
    read=_read,
    hub="csebuetnlp/xlsum",
    hub_languages=XLSUM,
    fetch=_fetch,
)
splits = FAMILY.splits
