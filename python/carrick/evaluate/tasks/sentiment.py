"""Sentiment of texts in three classes: tweets (XLM-T), or any JSONL files with texts and labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from carrick.config.location import Location
from carrick.errors import ConfigError
from carrick.evaluate.tasks.family import Family, Splits, hub_rows
from carrick.evaluate.tasks.files import Row, located_lines, text_lines

if TYPE_CHECKING:
    from pathlib import Path

LABELS = ("negative", "neutral", "positive")
TWEETS = {
    "ar": "arabic", "de": "german", "en": "english", "es": "spanish", "fr": "french", "hi": "hindi",
    "it": "italian", "pt": "portuguese",
}  # fmt: skip
LANGUAGES = (
    *TWEETS,
    "bn",
    "id",
    "ja",
    "ko",
    "ms",
    "nl",
    "pl",
    "ru",
    "sv",
    "sw",
    "te",
    "th",
    "tr",
    "vi",
    "zh",
)


def _row(text: str, label: object, where: Location) -> Row:
    names = {
        **{name: place for place, name in enumerate(LABELS)},
        **{str(place): place for place in range(3)},
    }
    gold = names.get(str(label).strip().lower())
    if gold is None:
        raise where.error(f"the label is {label!r}; it is one of {', '.join(LABELS)}, or 0, 1, 2")
    return {"text": text, "gold": gold, "labels": list(LABELS)}


def _tweets(folder: Path, split: str) -> list[Row]:
    path, beside = folder / f"{split}_text.txt", folder / f"{split}_labels.txt"
    texts, labels = text_lines(path), text_lines(beside)
    if len(texts) != len(labels):
        raise ConfigError(f"{path} has {len(texts)} lines, {beside.name} beside it {len(labels)}")
    return [
        _row(text, label, Location(file=str(beside), line=line))
        for line, (text, label) in enumerate(zip(texts, labels, strict=True), 1)
    ]


def _labelled(path: Path) -> list[Row]:
    rows = located_lines(path, ["label"], ["text"])
    return [_row(row["text"], row["label"], where) for where, row in rows]


def _file(folder: Path, code: str) -> Path:
    tweets = folder / TWEETS.get(code, code) / "test_text.txt"
    return tweets if tweets.exists() else folder / f"{code}.jsonl"


def _read(path: Path, folder: Path, language: str) -> Splits:
    if path.name == "test_text.txt":
        shots = path.parent / "train_text.txt"
        return {
            "test": _tweets(path.parent, "test"),
            "shots": _tweets(path.parent, "train") if shots.exists() else [],
        }
    train = folder / f"{language}_train.jsonl"
    return {"test": _labelled(path), "shots": _labelled(train) if train.exists() else []}


def _fetch(dataset: str, config: str, language: str) -> Splits:
    del language
    where = Location(file=dataset)
    return {
        name: [_row(row["text"], row["label"], where) for row in hub_rows(dataset, config, split)]
        for name, split in (("test", "test"), ("shots", "train"))
    }


def _family(name: str, title: str) -> Family:
    return Family(
        name=name,
        title=title,
        metric="macro_f1",
        folders=("sentiment", "xlmt_sentiment"),
        languages=LANGUAGES,
        file=_file,
        read=_read,
        hub="cardiffnlp/tweet_sentiment_multilingual",
        hub_languages=TWEETS,
        fetch=_fetch,
        classes=LABELS,
    )


FAMILY = _family("sentiment", "3 classes: likeliest label, or --head")
GENERATION = _family("sentiment_generation", "3 classes: the label that is generated")
splits = FAMILY.splits
