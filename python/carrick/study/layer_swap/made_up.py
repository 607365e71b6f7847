"""Made-up data in the layout of the real sets, for ``--quick`` and tests."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from carrick.study.layer_swap.texts import BELEBELE, MGSM, MSVAMP, TWEETS, XCOPA
from carrick.study.made_up import tweets, words

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_ROWS = 24


def make_up(folder: Path) -> None:
    """Write every file that the study reads, a few rows each; the same bytes each time."""
    tweets(folder / "xlmt_sentiment", TWEETS, {"train": 16, "val": 4, "test": 4})
    for code, name in BELEBELE.items():
        _lines(folder / "belebele_en_de" / f"{name}.jsonl", (_passage(code, i) for i in range(_ROWS)))
    for code in XCOPA:
        for split in ("val", "test"):
            rows = (_cause(code, i) for i in range(4))
            _lines(folder / "xcopa" / code / f"{split}.{code}.jsonl", rows)
    _lines(folder / "global_mmlu_dev" / "global_mmlu_dev_en.json", (_exam(i) for i in range(_ROWS)))
    for split in ("train", "test"):
        rows = ({"question": _problem("en", f"{split} {i}"), "answer": _answer(i)} for i in range(2 * _ROWS))
        _lines(folder / "gsm8k" / f"{split}.jsonl", rows)
    (folder / "mgsm").mkdir(parents=True, exist_ok=True)
    for code in MGSM:
        lines = (f"{_problem(code, f'mgsm {i}')}\t{i}" for i in range(8))
        (folder / "mgsm" / f"mgsm_{code}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for code, name in MSVAMP.items():
        rows = ({"m_query": _problem(code, f"msvamp {i}"), "response": f"{i}.0"} for i in range(16))
        _lines(folder / "msvamp" / f"test_{name}.json", rows)


def _sentence(language: str, key: object, length: int) -> str:
    draw = random.Random(f"{language} {key}")
    return " ".join(draw.choice(words(language)) for _ in range(length)).capitalize() + "."


def _problem(language: str, key: str) -> str:
    draw = random.Random(key)
    first, second = _sentence(language, f"{key} a", 5), _sentence(language, f"{key} b", 7)
    return f"{first[:-1]} {draw.randint(2, 90)}. {second[:-1]} {draw.randint(2, 90)}?"


def _answer(number: int) -> str:
    text, total = _sentence("en", f"answer {number}", 4), number + 1
    return f"{text} {number}+1 = <<{number}+1={total}>>{total}\n#### {total}"


def _passage(language: str, number: int) -> dict[str, Any]:
    answers = [
        {"text": _sentence(language, f"option {number} {place}", 3), "correct": place == number % 4}
        for place in range(4)
    ]
    question = {"question": _sentence(language, f"question {number}", 5), "answers": answers}
    return {"text": _sentence(language, f"passage {number}", 18), "items": [question]}


def _cause(language: str, number: int) -> dict[str, Any]:
    names = ("premise", "choice1", "choice2")
    return {name: _sentence(language, f"{name} {number}", 4) for name in names}


def _exam(number: int) -> dict[str, Any]:
    options = {f"option_{letter}": _sentence("en", f"{letter} {number}", 2) for letter in "abcd"}
    return {"question": _sentence("en", f"exam {number}", 8), **options}


def _lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
