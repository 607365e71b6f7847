"""`carrick adapters merge` as it is typed: what it writes, what it says, and to whom."""

from __future__ import annotations

import json

import numpy as np
import pytest

from adapters.merging import FILE, SHAPES, distance, knots_oracle, lora, meaning
from carrick.cli import main
from oracles.files import read_file

LONG = {
    f"model.language_model.layers.{i}.self_attention_of_a_long_name.query_projection_too": (12, 10)
    for i in range(30)
}


@pytest.fixture
def pair(tmp_path):
    adapters = [lora(seed, rank=2 + seed) for seed in range(2)]
    return adapters, [str(one.write(tmp_path / f"adapter-{i}")) for i, one in enumerate(adapters)]


def run(capfd, *words):
    capfd.readouterr()
    assert main(["adapters", "merge", *map(str, words)]) == 0
    return capfd.readouterr()


def test_every_option_arrives(pair, tmp_path, capfd):
    adapters, folders = pair
    out = tmp_path / "deep" / "out"
    run(
        capfd, *folders, "-o", out, "-m", "knots_dare_ties", "--weights", "1,-0.5", "--density", "0.6", "--seed", "4",
        "-p", "lambda=0.7", "-p", "direction=rows", "-p", "aggregate=sum", "-p", "variant=peft",
        "--precision", "float64", "--dtype", "float64", "--threads", "1", "--memory", "256MiB",
    )  # fmt: skip
    config = json.loads((out / "adapter_config.json").read_text())
    want = knots_oracle(
        "dare_ties", adapters, weights=[1, -0.5], density=0.6, seed=4, lambda_=0.7, direction="rows",
        aggregate="sum", variant="peft",
    )  # fmt: skip
    assert distance(meaning(read_file(out / FILE), config), want) <= 1e-10


def test_what_is_written(pair, tmp_path, capfd):
    _, folders = pair
    run(capfd, *folders, "-o", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "adapter_config.json",
        FILE,
        "carrick.json",
    ]
    data = (tmp_path / "out" / FILE).read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert header["__metadata__"]["format"] == "pt"
    record = json.loads((tmp_path / "out" / "carrick.json").read_text())
    assert record["method"] == "cat"
    assert [one["name"] for one in record["inputs"]] == ["adapter-0", "adapter-1"]
    tensors = read_file(tmp_path / "out" / FILE)
    assert record["tensors"].keys() == tensors.keys()


@pytest.mark.parametrize(
    "words",
    [
        ["--rank", "2"],
        ["--method", "knots_ties", "--density", "0.5"],
        ["--method", "ties", "--density", "0.5", "--rank", "3"],
        [],
    ],
    ids=str,
)
def test_lines_fit_the_screen(words, tmp_path, capfd):
    folders = [lora(seed, LONG).write(tmp_path / str(seed)) for seed in range(2)]
    out = tmp_path / "out"
    said = run(capfd, *folders, "-o", out, *words).out
    lines = said.splitlines()
    # The first one names the folder, which is as long as it is.
    assert lines[0].startswith(f"{out}: 60 tensors, ")
    assert max(len(line) for line in lines[1:] or [""]) <= 100
    assert ("and 18 modules more" in said) == bool(words)
    if words:
        assert next(line for line in lines if line.startswith("module")).split()[:3] == [
            "module",
            "rank",
            "error",
        ]


def test_the_modules_that_lose_most_come_first(tmp_path, capfd):
    folders = [lora(seed).write(tmp_path / str(seed)) for seed in range(2)]
    report = json.loads(run(capfd, *folders, "-o", tmp_path / "a", "--rank", "2", "--json").out)
    order = [m["path"] for m in sorted(report["modules"], key=lambda m: -m["error"])]
    lines = run(capfd, *folders, "-o", tmp_path / "b", "--rank", "2").out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("model.layers")] == order


@pytest.mark.parametrize(
    ("words", "modules"), [((), 0), (("--rank", "2"), 3), (("--method", "knots_ties", "--density", "0.5"), 3)]
)
def test_json(words, modules, pair, tmp_path, capfd):
    adapters, folders = pair
    said = run(capfd, *folders, "-o", tmp_path / "out", "--json", *words)
    report = json.loads(said.out)
    for key, kind in {
        "out": str, "tensors": int, "bytes_read": int, "bytes_written": int, "seconds": float, "checksums": dict,
        "nan": dict, "inf": dict, "overflow": dict, "notes": list, "threads": int, "simd": str, "modules": list,
        "config": dict,
    }.items():  # fmt: skip
        assert isinstance(report[key], kind), key
    assert "state_dict" not in report
    assert report["out"] == str(tmp_path / "out")
    assert report["tensors"] == 2 * len(SHAPES) == len(report["checksums"])
    assert report["config"] == json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert len(report["modules"]) == modules
    for module in report["modules"]:
        assert set(module) >= {"path", "rank", "sigma", "min_gap", "route", "error"}
        assert module["path"] in adapters[0].factors
        assert np.all(np.diff(module["sigma"]) <= 0)
        assert len(module["sigma"]) >= module["rank"] > 0


def test_notes_are_no_result(tmp_path, capfd):
    one = lora(0, {next(iter(SHAPES)): next(iter(SHAPES.values()))})
    folders = [one.write(tmp_path / "a"), lora(1).write(tmp_path / "b")]
    said = run(capfd, *folders, "-o", tmp_path / "out", "--json")
    assert json.loads(said.out)["notes"]
    assert "note: " in said.err
    assert "note: " not in said.out


def test_forgotten_arguments(capfd, tmp_path):
    for words in (["-o", str(tmp_path / "out")], [str(tmp_path)]):
        assert main(["adapters", "merge", *words]) == 2
        assert "Traceback" not in capfd.readouterr().err
