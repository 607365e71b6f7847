"""Rows of the paper's tasks as prompts and answers, worded as `carrick evaluate` asks."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study.stage import Running

VERSION = 1
_LETTERS = "ABCDE"


def prepare(running: Running) -> dict[str, Any]:
    """Stage: write a language's training and validation rows as prompts and answers, and keep its test rows."""
    params = running.params
    counts = {}
    for split in ("train", "validation"):
        rows = _read(running.files[split], params[split])
        asked = [{**_asked(params["task"], row), "language": params["language"]} for row in rows]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in asked)
        (running.folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
        counts[split] = len(rows)
    shutil.copyfile(running.files["test"], running.folder / "test.jsonl")
    return {"rows": counts}


def _read(path: Path, wanted: int) -> list[dict[str, Any]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line.strip()][:wanted]
    if len(rows) < wanted:
        raise ConfigError(f"the recipe wants {wanted:,} rows; the file has {len(rows):,}", file=str(path))
    return rows


def _asked(task: str, row: dict[str, Any]) -> dict[str, str]:
    """Return prompt and completion of a row.

    Examples
    --------
    >>> _asked("sentiment_generation", {"text": "good", "label": "positive"})["completion"]
    ' positive'
    """
    if task == "sentiment_generation":
        return {"prompt": f"Text: {row['text']}\nSentiment:", "completion": f" {row['label']}"}
    if task == "mcsqa":
        texts = row["choices"]["text"]
        choices = "\n".join(f"{letter}. {text}" for letter, text in zip(_LETTERS, texts, strict=True))
        answer = _LETTERS[row["choices"]["label"].index(row["answerKey"])]
        return {"prompt": f"{row['question'].strip()}\n{choices}\nAnswer:", "completion": f" {answer}"}
    if task == "summarisation":
        prompt = f"Summarize the following text in its language.\n\n{row['article']}\n\nSummary:"
        return {"prompt": prompt, "completion": f" {row['summary']}"}
    if task == "supporting_examples":
        from carrick.evaluate.tasks.supporting_examples import INSTRUCTION  # noqa: PLC0415

        parts = [row["input"]] if isinstance(row["input"], str) else row["input"]
        examples = row["examples"] if isinstance(row["examples"], str) else "\n".join(row["examples"])
        prompt = "\n".join(parts) + f"\n\n{row.get('instruction', INSTRUCTION)}\n\n"
        return {"prompt": prompt, "completion": examples}
    raise ConfigError(f"there are no prompts for the task `{task}`")
