"""Rows of the Hub's data sets, in their layouts, become the same rows as local files."""

from __future__ import annotations

import json

import pytest

from carrick.evaluate.tasks import belebele, commonsense, global_mmlu, gsm8k, mgsm, msvamp, sentiment, xcopa

pytest.importorskip("lm_eval")


@pytest.fixture
def hub(monkeypatch):
    """`datasets.load_dataset` that gives prepared rows, and notes what was asked for."""
    import datasets  # noqa: PLC0415

    asked, content = [], {}

    def load(path, name, *, split):
        asked.append((path, name, split))
        return content[split]

    monkeypatch.setattr(datasets, "load_dataset", load)
    return asked, content


def test_mgsm(hub, data):
    asked, content = hub
    local = mgsm.FAMILY.rows(data, "de")
    exemplars = json.loads((data / "mgsm" / "exemplars.json").read_text())["MGSM_EXEMPLARS"]["de"]
    content["train"] = [
        {"question": each["q"], "answer": each["a"], "answer_number": int(place) + 1, "equation_solution": ""}
        for place, each in exemplars.items()
    ]
    content["test"] = [
        {
            "question": row["question"],
            "answer": None,
            "answer_number": int(row["answer_number"].replace(",", "")),
        }
        for row in local["test"]
    ]
    found = mgsm.FAMILY.rows(None, "de")
    assert found["shots"] == local["shots"]
    assert [{**row, "answer_number": "", "worked": ""} for row in found["test"]] == [
        {**row, "answer_number": "", "worked": ""} for row in local["test"]
    ]
    assert asked == [("juletxara/mgsm", "de", "test"), ("juletxara/mgsm", "de", "train")]
    content["test"] = [{"m_query": row["question"], "response": "7.0"} for row in local["test"]]
    assert msvamp.FAMILY.rows(None, "de")["test"][0]["question"] == local["test"][0]["question"]


def test_belebele(hub, data):
    _, content = hub
    content["test"] = [
        {"flores_passage": f"Passage {n}.", "question": f"Question {n}?", "correct_answer_num": str(n + 1)}
        | {f"mc_answer{c + 1}": f"answer {c}" for c in range(4)}
        for n in range(3)
    ]
    assert belebele.FAMILY.rows(None, "en") == belebele.FAMILY.rows(data, "en")


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_those_whose_files_have_the_hubs_layout(hub, data):
    _, content = hub
    content["test"] = content["dev"] = rows_of(data / "global_mmlu" / "global_mmlu_dev_en.json")
    assert global_mmlu.FAMILY.rows(None, "en")["test"] == global_mmlu.FAMILY.rows(data, "en")["test"]
    content["test"] = content["train"] = rows_of(data / "gsm8k" / "test.jsonl")
    assert gsm8k.FAMILY.rows(None, "en")["test"] == gsm8k.FAMILY.rows(data, "en")["test"]
    content["test"] = content["validation"] = rows_of(data / "xcopa" / "it" / "test.it.jsonl")
    assert xcopa.FAMILY.rows(None, "it") == xcopa.FAMILY.rows(data, "it")
    content["validation"] = content["train"] = rows_of(data / "jcommonsenseqa" / "valid-v1.3.json")
    assert commonsense.JCOMMONSENSEQA.rows(None, "ja") == commonsense.JCOMMONSENSEQA.rows(data, "ja")
    content["test"] = content["train"] = rows_of(data / "mcsqa" / "de.jsonl")
    assert commonsense.MCSQA.rows(None, "de")["test"] == commonsense.MCSQA.rows(data, "de")["test"]
    texts = (data / "xlmt_sentiment" / "german" / "test_text.txt").read_text().split("\n")
    content["test"] = content["train"] = [{"text": t, "label": n % 3} for n, t in enumerate(texts)]
    assert sentiment.FAMILY.rows(None, "de") == sentiment.FAMILY.rows(data, "de")
