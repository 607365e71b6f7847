"""Made-up rows of every task, in the formats of the published files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NUMBERS = ["18", "2,125", "7"]
QUESTIONS = {
    "bn": ["আপেল কয়টি?", "কত টাকা?", "কয় দিন?"],
    "de": ["Wie viele Äpfel sind es?", "Wie viel kostet es?", "Wie viele Tage dauert es?"],
    "en": ["How many apples are there?", "What does it cost?", "How many days does it take?"],
    "ja": ["りんごはいくつ？", "いくらですか？", "何日かかる？"],
}
# The words of the published exemplars.
SHOTS = {
    "bn": ("প্রশ্ন: ", "ধাপে ধাপে উত্তর: ", "উত্তর হল {}।"),
    "de": ("Frage: ", "Schritt-für-Schritt-Antwort: ", "Die Antwort lautet {}."),
    "en": ("Question: ", "Step-by-Step Answer: ", "The answer is {}."),
    "ja": ("問題：", "ステップごとの答え：", "答えは{}です。"),
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def lines(path: Path, rows: list[dict]) -> None:
    write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def mathematics(data: Path) -> None:
    for language, questions in QUESTIONS.items():
        rows = [f"{question}\t{answer}" for question, answer in zip(questions, NUMBERS, strict=True)]
        write(data / "mgsm" / f"mgsm_{language}.tsv", "\n".join(rows))  # no newline at the end
    exemplars = {
        language: {
            str(place): {"q": f"{ask}{place} + 1?", "a": f"{reply}{place} + 1. {end.format(place + 1)}"}
            for place in (1, 2)
        }
        for language, (ask, reply, end) in SHOTS.items()
    }
    content = {"EXEMPLAR_NUMBER_ANSWERS": [2, 3], "MGSM_EXEMPLARS": exemplars}
    write(data / "mgsm" / "exemplars.json", json.dumps(content))
    names = {"German": "de", "English": "en", "Bengali": "bn"}
    for name, language in names.items():
        found = zip(QUESTIONS[language], ("18.0", "2125.0", "7.0"), strict=True)
        rows = [{"query": "?", "equation": "-", "response": right, "m_query": text} for text, right in found]
        lines(data / "msvamp" / f"test_{name}.json", rows)
    sums = [
        {"question": f"What is {n} + 1?", "answer": f"{n} + 1 = <<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"}
        for n in range(9)
    ]
    lines(data / "gsm8k" / "test.jsonl", sums[:3])
    lines(data / "gsm8k" / "train.jsonl", sums[3:])


def choices(data: Path) -> None:
    passages = [
        {
            "text": f"Passage {place}.",
            "items": [
                {
                    "question": f"Question {place}? ",
                    "answers": [{"text": f"answer {n}", "correct": n == place} for n in range(4)],
                }
            ],
            "metadata": {},
        }
        for place in range(3)
    ]
    lines(data / "belebele" / "eng_Latn.jsonl", passages)
    lines(data / "belebele" / "deu_Latn.jsonl", passages)
    lines(
        data / "global_mmlu" / "global_mmlu_dev_en.json",
        [
            {"sample_id": str(n), "subject": "logic", "question": f"Q{n}", "answer": "ABCD"[n]}
            | {f"option_{letter}": f"{letter}{n}" for letter in "abcd"}
            for n in range(3)
        ],
    )
    for split in ("test", "val"):
        lines(
            data / "xcopa" / "it" / f"{split}.it.jsonl",
            [
                {"premise": "L'ufficio era chiuso.", "choice1": "Era vacanza.", "choice2": "Era estate.",
                 "question": kind, "label": place, "idx": place, "changed": False}
                for place, kind in enumerate(("cause", "effect"))
            ],
        )  # fmt: skip
    quiz = [
        {"q_id": n, "question": f"質問{n}", **{f"choice{c}": f"答{c}" for c in range(5)}, "label": n}
        for n in range(3)
    ]
    lines(data / "jcommonsenseqa" / "valid-v1.3.json", quiz)
    lines(data / "jcommonsenseqa" / "train-v1.3.json", quiz)
    lines(
        data / "mcsqa" / "de.jsonl",
        [
            {"id": str(n), "question": f"Frage {n}?", "question_concept": "x", "answerKey": "ABCDE"[n], "hard": True,
             "choices": {"label": list("ABCDE"), "text": [f"Antwort {c}" for c in range(5)]}}
            for n in range(3)
        ],
    )  # fmt: skip
    lines(
        data / "mmlu_prox" / "es.jsonl",
        [
            {"question_id": n, "question": f"¿Qué es {n}?", "answer": "ABC"[n], "answer_index": n,
             "category": "math", "cot_content": "", **{f"option_{c}": f"opción {c}" for c in range(3)},
             **{f"option_{c}": None for c in range(3, 10)}}
            for n in range(3)
        ],
    )  # fmt: skip


def texts(data: Path) -> None:
    tweets = {
        "english": ["bad", "so so", "great", "awful", "fine", "lovely"],
        "german": ["schlecht", "geht so", "toll", "mies", "na ja", "schön"],
    }
    for language, found in tweets.items():
        for split in ("test", "train"):
            write(data / "xlmt_sentiment" / language / f"{split}_text.txt", "\n".join(found))
            write(data / "xlmt_sentiment" / language / f"{split}_labels.txt", "0\n1\n2\n0\n1\n2")
    lines(
        data / "wikilingua" / "ja.jsonl",
        [{"article": "猫がソファーで寝ています。犬は外です。", "summary": "猫が寝ている"}] * 2,
    )
    lines(
        data / "wikilingua" / "en.jsonl",
        [{"text": "The cat sleeps on the sofa.", "summary": "the cat sleeps"}] * 2,
    )
    lines(
        data / "supporting_examples" / "en.jsonl",
        [{"input": "The bus was late."}, {"input": ["No food.", "Bad seats."], "instruction": "Quote."}],
    )
    write(data / "texts" / "de.txt", "Ein Satz.\n\nNoch einer.\n")
    lines(data / "texts" / "en.jsonl", [{"text": "A sentence."}, {"text": "Another one, longer."}])


def make(data: Path) -> Path:
    """Write every task's folder."""
    mathematics(data)
    choices(data)
    texts(data)
    return data
