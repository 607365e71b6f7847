"""The validation loss is a mean over the answers' tokens: the same whatever the batches or processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import carrick
from carrick.quiet import quiet_libraries
from train.tiny import WORDS, jsonl, llama, questions, torch, transformers

pytest.importorskip("trl")
peft = pytest.importorskip("peft")
fitting = pytest.importorskip("carrick.train.fitting")

# Prompts of like length with answers of 1 to 11 words: the sizes of the batches' losses differ widely.
ROWS = [
    {
        "prompt": "how many " + WORDS[n],
        "completion": " " + " ".join(WORDS[(n * k) % 25] for k in range(1, n + 2)),
    }
    for n in range(11)
]
CONTENT = {
    "data": {"train": {"file": "qa.jsonl"}, "validation": {"file": "validation.jsonl"}},
    "adapter": {"rank": 4, "targets": ["q_proj", "v_proj", "up_proj"]},
    "training": {"steps": 4, "batch_size": 4, "learning_rate": 0.05, "evaluate_every": 4, "keep": "last"},
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    llama(tmp_path / "llama")
    jsonl(tmp_path / "qa.jsonl", questions(16))
    jsonl(tmp_path / "validation.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def by_hand(place, adapter, rows=ROWS):
    """Negative log-likelihood of every token of the answers and ends, row by row, in float64."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(place / "llama")
    base = transformers.AutoModelForCausalLM.from_pretrained(place / "llama")
    with quiet_libraries():
        model = peft.PeftModel.from_pretrained(base, adapter).double().eval()
    total, count = 0.0, 0
    for row in rows:
        start = len(tokenizer(row["prompt"])["input_ids"])
        ids = torch.tensor(
            [*tokenizer(row["prompt"] + row["completion"])["input_ids"], tokenizer.eos_token_id]
        )
        with torch.no_grad():
            logp = model(ids[None]).logits[0].log_softmax(-1)
        for position in range(start, len(ids)):
            total -= float(logp[position - 1, ids[position]])
            count += 1
    return total / count


def test_batches_do_not_matter(place, monkeypatch):
    losses = {}
    made = fitting.training_arguments
    for size in (1, 4, 11):
        monkeypatch.setattr(
            fitting,
            "training_arguments",
            lambda *args, size=size, **options: {
                **made(*args, **options),
                "per_device_eval_batch_size": size,
            },
        )
        report = carrick.train({"base": "llama", **CONTENT}, f"out-{size}", device="cpu", progress=False)
        ((step, losses[size]),) = report.record["validation"]
        assert step == 4
    assert losses[1] == pytest.approx(by_hand(place, "out-1"), rel=1e-6)
    assert losses[4] == pytest.approx(losses[1], rel=1e-6)
    assert losses[11] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [3, 11])
def test_processes_do_not_matter(place, rows):
    """Three rows are repeated to fill the batches of two processes, and count once."""
    jsonl(place / "validation.jsonl", ROWS[-rows:])
    (place / "en.yml").write_text(json.dumps({"base": "llama", **CONTENT}))
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone", "-m"]
    done = subprocess.run(
        [sys.executable, *launcher, "carrick", "train", "en.yml", "out", "--device", "cpu", "--json"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((place / "out" / "training.json").read_text())
    assert record["device_count"] == 2
    assert record["validation"][0][1] == pytest.approx(by_hand(place, "out", ROWS[-rows:]), rel=1e-6)
