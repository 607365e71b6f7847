"""`carrick train`: what it prints, its exit codes, its bar, and several processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

from carrick.cli import main
from train.tiny import jsonl, llama, questions, torch

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("command")
    llama(folder / "llama")
    jsonl(folder / "qa.jsonl", questions(12))
    (folder / "en.yml").write_text(
        """\
base: ./llama
data:
  train: {file: qa.jsonl, language: en}
  validation: {fraction: 0.25}
adapter: {rank: 2, targets: [q_proj, v_proj]}
training: {epochs: 2, batch_size: 3, learning_rate: 0.01}
cost: {price: 3600, currency: EUR}
"""
    )
    (folder / "grid.yml").write_text(
        (folder / "en.yml").read_text() + "search: {learning_rate: [0.001, 0.01], select: validation}\n"
    )
    return folder


def run(*words):
    return main(["train", *map(str, words)])


def test_it_trains_and_says_so(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(
        "CARRICK_PROGRESS_AFTER", "3600"
    )  # nothing is said of short work, however slow the machine
    assert run(place / "en.yml", tmp_path / "out", "--device", "cpu") == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0].startswith(f"{tmp_path / 'out'}: 448 parameters trained, the weights of step ")
    assert "steps       6 (2 epochs)" in lines
    assert any(line.startswith("cost ") and line.endswith(" EUR") for line in lines)
    assert max(map(len, lines[1:])) <= 100


def test_json(place, tmp_path, capsys):
    assert run(place / "en.yml", tmp_path / "out", "--device", "cpu", "--json") == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads((tmp_path / "out" / "training.json").read_text())
    assert record["recipe"]["data"]["train"]["language"] == "en"
    assert record["versions"]["torch"] == torch.__version__.split("+")[0] or record["versions"]["torch"]


def test_a_grid_is_a_table(place, tmp_path, capsys):
    assert run(place / "grid.yml", tmp_path / "out", "--device", "cpu") == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(number for number, line in enumerate(lines) if "learning rate" in line)
    assert [line.split()[-6 if line.startswith("kept") else 0] for line in lines[head + 1 :]]
    assert sum(line.startswith("kept") for line in lines[head + 1 :]) == 1
    # At 3,600 an hour a second costs 1: the kept point's cost, and that of all.
    record = json.loads((tmp_path / "out" / "training.json").read_text())
    said = dict(line.split("  ", 1) for line in lines if line.startswith(("cost ", "of the grid ")))
    kept = float(said["cost"].split()[0])
    clock, grid, points = re.split(r" of device time, | EUR, ", said["of the grid"])
    assert clock.strip()
    assert points == "all 2 points together"
    assert kept == pytest.approx(record["cost"], abs=0.01)
    assert float(grid) == pytest.approx(record["search"]["cost"], abs=0.01)


def test_a_dry_run(place, tmp_path, capsys):
    assert run(place / "en.yml", tmp_path / "out", "--device", "cpu", "--dry-run") == 0
    said = capsys.readouterr().out
    assert ["steps", "6", "(2", "epochs)"] in [line.split() for line in said.splitlines()]
    assert "nothing was trained" in said
    assert not (tmp_path / "out").exists()


def test_a_mistake_is_one_line_and_code_2(place, tmp_path, capsys):
    (place / "wrong.yml").write_text((place / "en.yml").read_text().replace("q_proj", "q_prj"))
    assert run(place / "wrong.yml", tmp_path / "out", "--device", "cpu") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "did you mean `q_proj`" in said.err


def test_a_bar_is_drawn_on_a_terminal(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CARRICK_PROGRESS_AFTER", "0")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert run(place / "en.yml", tmp_path / "out", "--device", "cpu") == 0
    drawn = capsys.readouterr().err
    for words in ("of 6 steps", "loss ", "validation ", " left"):
        assert words in drawn
    assert run(place / "en.yml", tmp_path / "two", "--device", "cpu", "--no-progress") == 0
    assert capsys.readouterr().err == ""


def test_without_a_terminal_long_work_is_one_line(place, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CARRICK_PROGRESS_AFTER", "0")
    assert run(place / "en.yml", tmp_path / "out", "--device", "cpu") == 0
    said = capsys.readouterr().err
    assert said.startswith("train: 6 steps in ")
    assert said.count("\n") == 1


LATE = """
import os, sys, time
from carrick.cli import main
from carrick.train import checkpoints

load = checkpoints.load_trainable

def late(*arguments):
    time.sleep(3 * int(os.environ["RANK"]))
    load(*arguments)

checkpoints.load_trainable = late
sys.exit(main())
"""


@pytest.mark.slow
def test_two_processes(place, tmp_path):
    """Launched on two CPUs, of which one lags: one result, as many rows as both see together."""
    (tmp_path / "late.py").write_text(LATE)
    launcher = ["-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    carrick = [str(tmp_path / "late.py"), "train", str(place / "en.yml"), str(tmp_path / "out")]
    command = [sys.executable, *launcher, *carrick]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--device", "cpu", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout[done.stdout.index("{") :])
    assert record["device_count"] == 2
    assert record["device_seconds"] == pytest.approx(2 * record["wall_seconds"])
    assert record["steps"] == 4  # nine rows, three for each of two processes at a time, twice
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "training.json",
    ]  # fmt: skip
    assert not (tmp_path / "out.carrick-partial").exists()
