"""UMSAB's tweets: one text and one label a line, a folder a language."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from carrick.study.stage import Running

SPLITS = ("train", "val", "test")
VERSION = 1


def files_of(folder: Path, language: str) -> dict[str, Path]:
    """Return the six files of a language by the names a stage knows them by."""
    kinds = ("text", "labels")
    return {
        f"{split}_{kind}": folder / language / f"{split}_{kind}.txt" for split in SPLITS for kind in kinds
    }


def read(text: Path, labels: Path, classes: Sequence[str]) -> tuple[list[str], list[int]]:
    """Read one split.

    Parameters
    ----------
    text, labels
        Files with one row a line; the last line may lack its newline. Other line separators of Unicode occur
        within tweets and are no ends of lines.
    classes
        Names of the labels 0, 1, …

    Raises
    ------
    ConfigError
        Another number of texts than of labels, a label that is no class, no rows.
    """
    texts = text.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    lines = labels.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if len(texts) != len(lines):
        raise ConfigError(f"{len(texts):,} texts, but {labels} has {len(lines):,} labels", file=str(text))
    known = {str(place): place for place in range(len(classes))}
    for number, line in enumerate(lines, start=1):
        if line.strip() not in known:
            wanted = f"0 to {len(classes) - 1} ({', '.join(classes)})"
            raise ConfigError(f"the label is `{line}`; labels are {wanted}", file=str(labels), line=number)
    return texts, [known[line.strip()] for line in lines]


def prepare(running: Running) -> dict[str, Any]:
    """Stage: write each split of a language as JSON lines, and a drawn share of the training rows beside it."""
    params = running.params
    counts = {}
    for split in SPLITS:
        texts, labels = read(
            running.files[f"{split}_text"], running.files[f"{split}_labels"], params["labels"]
        )
        rows = [
            {"text": text, "label": label, "language": params["language"]}
            for text, label in zip(texts, labels, strict=True)
        ]
        _write(running.folder / f"{split}.jsonl", rows)
        counts[split] = len(rows)
        if split == "train":
            draw = random.Random(f"share of {params['language']}")
            some = draw.sample(rows, max(1, round(params["share"] * len(rows))))
            _write(running.folder / "train-share.jsonl", some)
            counts["train-share"] = len(some)
    return {"rows": counts}


def load(folder: Path, split: str) -> tuple[list[str], list[int]]:
    """Read what `prepare` wrote: texts and labels."""
    with (folder / f"{split}.jsonl").open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    # Line separators such as U+2028 are escaped: every reader agrees on where a row ends.
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
