"""A training that was killed goes on and ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import carrick
from carrick.classifier.head import Head
from carrick.errors import PlanError
from carrick.train.resuming import TrainingFolder
from train.tiny import bert, jsonl, llama, opinions, questions, torch, transformers

pytest.importorskip("trl")
fine_tune = pytest.importorskip("carrick.train.fine_tune")
fitting = pytest.importorskip("carrick.train.fitting")
load_file = pytest.importorskip("safetensors.torch").load_file

STEPS = 9


class KilledError(Exception):
    pass


class StopAt(transformers.TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):  # noqa: ARG002
        if state.global_step == self.step:
            raise KilledError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    llama(folder / "llama")
    bert(folder / "bert")
    jsonl(folder / "qa.jsonl", questions(22))
    jsonl(folder / "opinions.jsonl", opinions(22))
    generator = np.random.default_rng(5)
    Head(
        generator.standard_normal((2, 32), dtype=np.float32), np.zeros(2, np.float32), ("bad", "good"), "bert"
    ).save(folder / "head")
    return folder


# Six batches an epoch: step 3 is amid the first epoch, 6 at its end, 9 amid the second. Dropout draws at every step.
TRAINING = {
    "steps": STEPS, "batch_size": 4, "learning_rate": 0.01, "schedule": "cosine", "warmup": 2, "evaluate_every": 3,
    "seed": 4, "weight_decay": 0.1, "snapshots": [2, 5, 8],
}  # fmt: skip


def causal(place, **changes):
    content = {
        "base": str(place / "llama"),
        "data": {
            "train": {"file": str(place / "qa.jsonl")},
            "validation": {"file": str(place / "qa.jsonl"), "rows": 5},
        },
        "adapter": {"rank": 4, "dropout": 0.2, "targets": ["q_proj", "v_proj"]},
        "training": TRAINING,
    }
    return {**content, **changes}


def whole(place):
    content = causal(place)
    del content["adapter"]
    return content


def classification(place):
    return {
        "base": str(place / "bert"),
        "task": "classification",
        "head": str(place / "head"),
        "data": {"train": {"file": str(place / "opinions.jsonl")}, "validation": {"fraction": 0.2}},
        "adapter": {"rank": 4, "targets": ["query", "dense"]},
        "training": {**TRAINING, "batch_size": 3, "precision": "bfloat16"},
    }


def train(content, out, **options):
    return carrick.train(content, out, device="cpu", progress=False, **options)


def killed(content, out, step, monkeypatch):
    def fit(model, job, **options):
        return fitting.fit(model, job, callbacks=[StopAt(step)], **options)

    with monkeypatch.context() as patch:
        patch.setattr(fine_tune, "fit", fit)
        with pytest.raises(KilledError) as caught:
            train(content, out)
    kept = out.with_name(f"{out.name}.carrick-partial")
    said = "the same command goes on from there" in "".join(getattr(caught.value, "__notes__", []))
    assert said == kept.exists()


def tensors(folder):
    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def assert_same(one, two):
    first, second = tensors(one), tensors(two)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(second[name], tensor), name


@pytest.mark.parametrize("kind", [causal, whole, classification])
def test_resumed_it_ends_with_the_same_weights(place, tmp_path, monkeypatch, kind):
    content = kind(place)
    straight = train(content, tmp_path / "straight")
    for step, newest in ((5, 3), (7, 6)):  # the second time: what resumed is killed as well
        killed(content, tmp_path / "out", step, monkeypatch)
        checkpoints = tmp_path / "out.carrick-partial" / "checkpoints"
        assert (checkpoints / f"checkpoint-{newest}" / "clock.json").is_file()
    resumed = train(content, tmp_path / "out")
    assert resumed.record["resumed_from"] == 6
    assert straight.record["resumed_from"] is None
    assert_same(straight.out, resumed.out)
    for step in (2, 5, 8):
        assert_same(straight.out / "snapshots" / f"step-{step}", resumed.out / "snapshots" / f"step-{step}")
    for key in ("losses", "validation", "best_step", "steps", "samples_seen", "final_epoch_loss"):
        assert resumed.record[key] == straight.record[key], key
    assert not (tmp_path / "out.carrick-partial").exists()


def test_time_goes_on_from_the_checkpoint(place, tmp_path, monkeypatch):
    killed(causal(place), tmp_path / "out", 5, monkeypatch)
    clock = tmp_path / "out.carrick-partial" / "checkpoints" / "checkpoint-3" / "clock.json"
    assert 0 < json.loads(clock.read_text())["seconds"] < 100
    clock.write_text(json.dumps({"seconds": 1000.0}))
    assert 1000 < train(causal(place), tmp_path / "out").record["wall_seconds"] < 1100


def test_an_unfinished_checkpoint_does_not_count(place, tmp_path, monkeypatch):
    content = causal(place)
    straight = train(content, tmp_path / "straight")
    killed(content, tmp_path / "out", 8, monkeypatch)
    checkpoints = tmp_path / "out.carrick-partial" / "checkpoints"
    unfinished = checkpoints / "checkpoint-6"
    (unfinished / "clock.json").unlink()
    (unfinished / "optimizer.pt").write_bytes(b"cut short")
    resumed = train(content, tmp_path / "out")
    assert resumed.record["resumed_from"] in {3, None}
    assert_same(straight.out, resumed.out)


@pytest.mark.parametrize("change", ["recipe", "rows", "base", "no resume"])
def test_checkpoints_of_another_training_are_not_gone_on_from(place, tmp_path, monkeypatch, change):
    content = causal(place)
    rows = jsonl(tmp_path / "qa.jsonl", questions(22))
    content["data"] = {"train": {"file": str(rows)}}
    content["base"] = str(llama(tmp_path / "base"))
    killed(content, tmp_path / "out", 5, monkeypatch)
    if change == "recipe":
        content["training"] = {**TRAINING, "learning_rate": 0.02}
    elif change == "rows":
        jsonl(rows, questions(22, start=1))
    elif change == "base":
        llama(tmp_path / "base", seed=1)
    report = train(content, tmp_path / "out", resume=change != "no resume")
    assert report.record["resumed_from"] is None


def test_the_price_may_change(place, tmp_path, monkeypatch):
    killed(causal(place), tmp_path / "out", 5, monkeypatch)
    report = train(causal(place, cost={"price": 2.0}), tmp_path / "out")
    assert report.record["resumed_from"] == 3
    assert report.record["cost"] == pytest.approx(2.0 * report.record["wall_seconds"] / 3600)


def test_before_the_first_checkpoint_nothing_is_left(place, tmp_path, monkeypatch):
    killed(causal(place), tmp_path / "out", 2, monkeypatch)
    assert not list(tmp_path.glob("out*"))


def test_one_run_at_a_time(place, tmp_path):
    with (
        TrainingFolder(tmp_path / "out"),
        pytest.raises(PlanError, match="another run is writing there"),
    ):
        train(causal(place), tmp_path / "out")


def test_a_kill_from_outside(place, tmp_path):
    """SIGKILL: no handler runs. The checkpoints are what is left."""
    slow = {**TRAINING, "steps": 100, "evaluate_every": 10, "snapshots": []}
    content = causal(place, training=slow)
    script = "import json, sys, carrick; carrick.train(json.loads(sys.argv[1]), sys.argv[2], device='cpu')"
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-c", script, json.dumps(content), str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    checkpoints = tmp_path / "out.carrick-partial" / "checkpoints"
    deadline = time.monotonic() + 240
    while not list(checkpoints.glob("*/clock.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    torch.set_num_threads(1)
    resumed, straight = train(content, out), train(content, tmp_path / "straight")
    assert resumed.record["resumed_from"] >= 10
    assert_same(straight.out, resumed.out)
