"""MMLU-ProX split into training and test rows, the same questions on the same side in every language."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

from carrick.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study.stage import Running

VERSION = 2  # shots of version 1 showed a bare letter
FOLDER = "mmlu_prox"


def split(running: Running) -> dict[str, Any]:
    """Stage: split the questions; write training rows, and test rows where the evaluation looks for them."""
    params = running.params
    rows = {code: _read(running.files[code]) for code in params["languages"]}
    chosen = training_questions(
        {code: [_id(row) for row in own] for code, own in rows.items()}, **params["split"]
    )
    (running.folder / FOLDER).mkdir(exist_ok=True)
    counts = {}
    for code, own in rows.items():
        training = [row for row in own if _id(row) in chosen]
        test = [row for row in own if _id(row) not in chosen]
        _write(running.folder / f"train-{code}.jsonl", [asked(row, code) for row in training])
        _write(running.folder / FOLDER / f"{code}.jsonl", test)
        shots = [{**row, "cot_content": stated(row, code)} for row in training[: params["shots"]]]
        _write(running.folder / FOLDER / f"{code}_validation.jsonl", shots)
        counts[code] = {"train": len(training), "test": len(test)}
    return {"rows": counts}


def training_questions(ids: dict[str, list[str]], share: float, seed: int) -> set[str]:
    """Draw the questions that are trained on.

    Parameters
    ----------
    ids
        Questions of each language.
    share
        Of them for training.
    seed
        Of the draw.

    Raises
    ------
    ConfigError
        Languages with different questions: a test question could be another language's training question.

    Examples
    --------
    >>> len(training_questions({"en": list("abcde"), "es": list("edcba")}, 0.8, 0))
    4
    """
    first, *others = ids
    known = set(ids[first])
    for code in others:
        if set(ids[code]) != known or len(ids[code]) != len(ids[first]):
            raise ConfigError(
                f"{code} has other questions than {first}: the languages must be translations of each other, with "
                "the same `question_id`, or test questions would be trained on in another language"
            )
    return set(random.Random(seed).sample(sorted(known), round(share * len(known))))


def asked(row: dict[str, Any], language: str) -> dict[str, str]:
    """Return a row as `carrick evaluate` asks it without shots, and the answer that it looks for."""
    from carrick.evaluate.tasks import mmlu_prox  # noqa: PLC0415  (an extra)

    shown = mmlu_prox.row(row, language)
    prompt = f"{shown['instruction']}\n\n{shown['problem']}\n{shown['reply']}"
    return {"prompt": prompt, "completion": f" {stated(row, language)}", "language": language}


def stated(row: dict[str, Any], language: str) -> str:
    """Return the answer in the language's words, which are those that the scoring looks for."""
    from carrick.evaluate.tasks import mmlu_prox  # noqa: PLC0415  (an extra)

    return mmlu_prox.stated(row["answer"], language)


def _id(row: dict[str, Any]) -> str:
    return str(row["question_id"])


def _read(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    for number, row in enumerate(rows, start=1):
        for column in ("question_id", "question", "option_0", "answer"):
            if column not in row:
                raise ConfigError(f"there is no column `{column}`", file=str(path), line=number)
    return rows


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
