"""What each model of the study is trained on, and what all are tested on: disjoint, checked, packed."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carrick.errors import CarrickError
from carrick.study.layer_swap import texts
from carrick.study.layer_swap.held_out import HeldOut
from carrick.study.layer_swap.packing import pack
from carrick.study.layer_swap.toy_model import count_tokens, make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

# How German text and GSM8K's training rows are shared out: little of both goes into the base, so that there is
# something left to learn for the experts, and a part of the German text into no training at all.
BASE, EXPERT = 0.25, 0.60
# The test sets: `selection` chooses among the partitions and is no result.
TESTS = ("msvamp_de", "mgsm_de", "math_en", "general_de")
SELECTION = "selection"


@dataclass(frozen=True)
class Corpora:
    """Texts by use.

    Attributes
    ----------
    base
        Pretraining: general text in six languages, little German, some GSM8K.
    math
        The math expert: GSM8K's other training rows.
    german
        The language expert's supervised rows: passages with questions and answers, tweets with their mood.
    german_running
        The same share of German as running text, for continual pretraining as the language step.
    tests
        Test texts by set.
    """

    base: list[str]
    math: list[str]
    german: list[str]
    german_running: list[str]
    tests: dict[str, list[str]]

    def training(self) -> dict[str, list[str]]:
        """Return every text that some model or the tokenizer is trained on, by use."""
        return {
            "base": self.base,
            "math": self.math,
            "german": self.german,
            "german_running": self.german_running,
        }


def gather(data: Path, seed: int, test_rows: int) -> Corpora:
    """Share out the texts of a data folder.

    Parameters
    ----------
    data
        Folder of the data sets.
    seed
        Seed of every shuffle.
    test_rows
        The most texts of a test set.
    """
    shuffle = random.Random(seed)
    base = texts.passages(data, "en") + texts.other_general(data)
    for language in texts.TWEETS:
        if language != "de":
            base += texts.tweets(data, language)
    passages = _shares(texts.german_passages(data), shuffle)
    tweets = _shares(texts.german_tweets(data), shuffle)
    problems = texts.gsm8k(data, "train")
    shuffle.shuffle(problems)
    cut = round(len(problems) * BASE)
    base += [whole for whole, _ in passages[0] + tweets[0]] + problems[:cut]
    german = [whole for whole, _ in passages[1]] + [whole for whole, _ in tweets[1]]
    running = [plain for _, plain in passages[1]] + [plain for _, plain in tweets[1]]
    unseen = [plain for _, plain in passages[2] + tweets[2]]
    for rows in (base, german, running, unseen):
        shuffle.shuffle(rows)
    svamp = texts.msvamp(data, "de")
    half = len(svamp) // 2
    tests = {
        SELECTION: svamp[:half],
        "msvamp_de": svamp[half:],
        "mgsm_de": texts.mgsm(data, "de"),
        "math_en": texts.mgsm(data, "en"),
        "general_de": unseen,
    }
    return Corpora(base, problems[cut:], german, running, {n: rows[:test_rows] for n, rows in tests.items()})


def without_tests(corpora: Corpora, problems: Iterable[str]) -> tuple[Corpora, dict[str, int]]:
    """Take out training texts that hold a test problem, and count them by use.

    Raises
    ------
    CarrickError
        One is left all the same.
    """
    tests = HeldOut(problems)
    dropped: dict[str, int] = {}
    kept: dict[str, list[str]] = {}
    for use, rows in corpora.training().items():
        found = set(tests.found(rows))
        dropped[use] = len(found)
        kept[use] = [row for number, row in enumerate(rows) if number not in found]
        if tests.found(kept[use]):
            raise CarrickError(f"a test problem is still among the texts of `{use}`")
    return Corpora(**kept, tests=corpora.tests), dropped


def write(corpora: Corpora, folder: Path, *, vocabulary: int, row_tokens: int) -> dict[str, dict[str, int]]:
    """Train the tokenizer, pack the texts and write them as JSONL; return counts by use.

    Files are ``base.jsonl``, ``math.jsonl``, ``german.jsonl``, ``german_running.jsonl`` (rows ``{"text": …}``),
    ``tests.json``, and the tokenizer in ``tokenizer/``.
    """
    training = corpora.training()
    make_tokenizer([text for rows in training.values() for text in rows], vocabulary, folder / "tokenizer")
    counts: dict[str, dict[str, int]] = {}
    for use, rows in training.items():
        lengths = count_tokens(folder / "tokenizer", rows)
        packed = pack(rows, lengths, row_tokens)
        _write_rows(folder / f"{use}.jsonl", packed)
        counts[use] = {"texts": len(rows), "rows": len(packed), "tokens": sum(lengths)}
        counts[use]["tokens_cut"] = sum(max(0, length - row_tokens) for length in lengths)
    for name, rows in corpora.tests.items():
        counts[name] = {"texts": len(rows), "tokens": sum(count_tokens(folder / "tokenizer", rows))}
    (folder / "tests.json").write_text(json.dumps(corpora.tests, ensure_ascii=False), encoding="utf-8")
    return counts


def _write_rows(path: Path, rows: Sequence[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps({"text": row}, ensure_ascii=False) + "\n")


def _shares(rows: list[tuple[str, str]], shuffle: random.Random) -> list[list[tuple[str, str]]]:
    """Split rows at random into base, expert and unseen."""
    shuffle.shuffle(rows)
    first, second = round(len(rows) * BASE), round(len(rows) * (BASE + EXPERT))
    return [rows[:first], rows[first:second], rows[second:]]
