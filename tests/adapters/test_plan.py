"""What a merge of adapters would do, said ahead: against the files that go in and what the merge then makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

import carrick
from adapters.merging import DOWN, FILE, SHAPES, Lora, Q, V, lora
from carrick.cli import main
from carrick.cli.output import WIDTH
from carrick.plan import output as output_module
from oracles.files import read_file, write_model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

RANKS = (2, 3)
TIES = {"merge_method": "ties", "parameters": {"density": 0.5}}
KNOTS = {"merge_method": "knots_ties", "parameters": {"density": 0.5}}
# Contents beside the models; what rank a module of `rows` × `columns` comes out with, at most.
CASES: dict[str, tuple[dict[str, Any], Any]] = {
    "cat": ({"merge_method": "cat"}, lambda _rows, _columns: 5),
    "cat to a rank": ({"merge_method": "cat", "rank": 4}, lambda _rows, _columns: 4),
    "cat to an energy": ({"merge_method": "cat", "energy": 1.0}, lambda _rows, _columns: 5),
    "knots": (KNOTS, lambda rows, _columns: min(5, rows)),
    "knots by rows": (
        {**KNOTS, "parameters": {"density": 0.5, "direction": "rows"}},
        lambda _rows, columns: min(5, columns),
    ),
    "knots to a rank": ({**KNOTS, "rank": 2}, lambda _rows, _columns: 2),
    "ties to a rank": ({**TIES, "rank": 3}, lambda _rows, _columns: 3),
    "ties to an energy": ({**TIES, "energy": 1.0}, min),
    "doubles": (
        {"merge_method": "knots_linear", "precision": "float64"},
        lambda rows, _columns: min(5, rows),
    ),
    "bfloat16": ({**TIES, "rank": 3, "dtype": "bf16"}, lambda _rows, _columns: 3),
}
ONE_STAGE = ("cat",)


def folders_of(root: Path, adapters: Sequence[Lora]) -> list[Path]:
    return [one.write(root / f"adapter-{number}") for number, one in enumerate(adapters)]


def written(root: Path, content: dict[str, Any], folders: Sequence[Path]) -> Path:
    path = root / "merge.yml"
    path.write_text(json.dumps({**content, "models": [{"model": str(folder)} for folder in folders]}))
    return path


def data_bytes(folder: Path) -> int:
    return sum(tensor.nbytes for tensor in read_file(folder / FILE).values())


@pytest.fixture
def pair(tmp_path):
    return folders_of(tmp_path, [lora(seed, rank=rank) for seed, rank in enumerate(RANKS)])


@pytest.mark.parametrize("name", CASES)
def test_ranks_and_bytes_are_those_of_the_merge(name, pair, tmp_path):
    """Random factors have every direction there can be: what is said to be the most is what comes out."""
    content, rank_of = CASES[name]
    config = written(tmp_path, content, pair)
    plan = carrick.plan(config, tmp_path / "out")
    assert plan.is_exact == (name in ONE_STAGE)
    size = 2 if content.get("dtype") == "bf16" else 4
    assert [module.path for module in plan.modules] == list(SHAPES)
    total = 0
    for module in plan.modules:
        rows, columns = SHAPES[module.path]
        assert (module.shape, module.ranks, module.kind) == ((rows, columns), RANKS, "linear")
        assert module.rank == rank_of(rows, columns), module.path
        total += size * module.rank * (rows + columns)
    assert (plan.tensors, plan.bytes_written) == (2 * len(SHAPES), total)
    report = carrick.merge(config, tmp_path / "out")
    ranks = report.config["rank_pattern"]
    for module in plan.modules:
        held = next((r for p, r in ranks.items() if p.replace("\\", "") == module.path), report.config["r"])
        assert held == module.rank, module.path
    assert (report.tensors, data_bytes(tmp_path / "out")) == (plan.tensors, total)


def test_bytes_read(pair, tmp_path):
    """The sum reads every factor once; a cut reads them for the decomposition, and once more with what that left."""
    stored = sum(data_bytes(folder) for folder in pair)
    plan = carrick.plan(written(tmp_path, {"merge_method": "cat"}, pair))
    assert (plan.bytes_read, plan.scratch_bytes, plan.decomposes) == (stored, 0, False)
    assert (
        carrick.merge(written(tmp_path, {"merge_method": "cat"}, pair), tmp_path / "out").bytes_read == stored
    )
    plan = carrick.plan(written(tmp_path, {"merge_method": "cat", "rank": 4}, pair))
    # P and Q of each adapter and module: its rank by 4, in float32.
    scratch = len(SHAPES) * sum(RANKS) * 4 * 2 * 4
    assert (plan.scratch_bytes, plan.decomposes) == (scratch, True)
    assert plan.bytes_read == 2 * stored + scratch
    plan = carrick.plan(written(tmp_path, {**TIES, "rank": 3}, pair))
    # A trim looks at ΔW twice; the factors that are found are read when they are written down.
    scratch = sum(3 * (rows + columns) * 4 for rows, columns in SHAPES.values())
    assert (plan.scratch_bytes, plan.decomposes) == (scratch, False)
    assert plan.bytes_read == 2 * stored + scratch
    plan = carrick.plan(written(tmp_path, {**KNOTS, "rank": 2}, pair))
    basis = len(SHAPES) * sum(RANKS) * 5 * 2 * 4
    cut = sum(2 * (5 + columns) * 4 for _, columns in SHAPES.values())
    turned = len(SHAPES) * sum(RANKS) * 2 * 4
    assert plan.scratch_bytes == basis + cut + turned


@pytest.mark.parametrize(
    "content",
    [{"merge_method": "cat", "rank": 4}, {**TIES, "rank": 3}, KNOTS, {**KNOTS, "rank": 2}],
    ids=["cut", "ties", "knots", "knots, cut"],
)
def test_as_much_is_read_as_the_plan_says(content, pair, tmp_path):
    """Factors of random numbers have the ranks that a plan expects."""
    plan = carrick.plan(written(tmp_path, content, pair))
    report = carrick.merge(written(tmp_path, content, pair), tmp_path / "out")
    assert report.bytes_read == plan.bytes_read > 2 * sum(data_bytes(folder) for folder in pair)


def test_memory_is_what_the_core_says(pair, tmp_path, monkeypatch):
    """Of the cut as well: two large modules of a matrix each, held in float32."""
    shapes = {Q.format(i): (600, 500) for i in range(2)}
    folders = folders_of(tmp_path / "large", [lora(seed, shapes) for seed in range(2)])
    large = carrick.plan(written(tmp_path, {**TIES, "rank": 3}, folders))
    small = carrick.plan(written(tmp_path, {**TIES, "rank": 3}, pair))
    assert large.peak_bytes - small.peak_bytes > 2 * 600 * 500 * 4
    peaks: list[int] = []
    from carrick import _core  # noqa: PLC0415

    run = _core.truncate
    monkeypatch.setattr(
        _core, "truncate", lambda *a: peaks.append(json.loads(run(*a))["peak_bytes"]) or run(*a)
    )
    carrick.merge(written(tmp_path, {**TIES, "rank": 3}, folders), tmp_path / "out")
    assert large.peak_bytes >= peaks[0]
    with pytest.raises(carrick.PlanError, match="memory are needed"):
        carrick.merge(written(tmp_path, {**TIES, "rank": 3}, folders), "out", memory="1MiB", dry_run=True)


def test_factors_apart_and_layers_swapped(tmp_path):
    folders = folders_of(tmp_path, [lora(seed, rank=3) for seed in range(2)])
    plan = carrick.plan(written(tmp_path, {**TIES, "space": "factors"}, folders))
    assert plan.is_exact
    assert {module.rank for module in plan.modules} == {3}
    # Density 0.5 is measured first.
    assert plan.bytes_read == 2 * sum(data_bytes(folder) for folder in folders)
    shapes = {Q.format(0): (21, 17), V.format(0): (9, 17)}
    folders = folders_of(tmp_path / "swap", [lora(0, rank=2), lora(1, shapes, rank=4)])
    content = {"merge_method": "layer_swap", "layers": {"match": "q_proj|down_proj"}}
    plan = carrick.plan(written(tmp_path, content, folders))
    assert {m.path: (m.ranks, m.rank, m.weights) for m in plan.modules} == {
        Q.format(0): ((2, 4), 4, ()), V.format(0): ((2, 4), 2, ()), DOWN.format(1): ((2, 0), 0, ()),
    }  # fmt: skip
    report = carrick.merge(written(tmp_path, content, folders), tmp_path / "out")
    assert (report.tensors, data_bytes(tmp_path / "out")) == (plan.tensors, plan.bytes_written)


def test_weights_of_modules_are_shown(pair, tmp_path):
    path = tmp_path / "weights.json"
    weight = [{"filter": "q_proj", "value": -0.5}, {"value": 2}]
    models = [
        {"model": str(pair[0]), "parameters": {"weight": weight, "density": 0.25}},
        {"model": str(pair[1])},
    ]
    path.write_text(json.dumps({**KNOTS, "models": models}))
    plan = carrick.plan(path)
    assert {module.path: module.weights for module in plan.modules} == {
        Q.format(0): (-0.5, 1), V.format(0): (2, 1), DOWN.format(1): (2, 1),
    }  # fmt: skip
    assert [adapter.parameters for adapter in plan.adapters] == [
        {"density": 0.25},
        {"weight": 1, "density": 0.5},
    ]


def test_what_stands_beside_the_modules(tmp_path):
    adapters = [lora(seed) for seed in range(2)]
    head = np.ones((5, 17), ml_dtypes.bfloat16)
    for one in adapters:
        one.settings["modules_to_save"] = ["lm_head"]
        one.more["lm_head.weight"] = head
    folders = folders_of(tmp_path, adapters)
    base = write_model(tmp_path / "base", {"lm_head.weight": np.ones((5, 17), np.float32)})
    with pytest.raises(carrick.PlanError, match="modules-to-save"):
        carrick.plan(written(tmp_path, {"merge_method": "cat"}, folders))
    content = {"merge_method": "cat", "modules_to_save": "merge", "base_model": str(base)}
    plan = carrick.plan(written(tmp_path, content, folders))
    assert plan.beside == ["base_model.model.lm_head.weight"]
    assert plan.tensors == 2 * len(SHAPES) + 1
    carrick.merge(written(tmp_path, content, folders), tmp_path / "out")
    assert data_bytes(tmp_path / "out") == plan.bytes_written
    plan = carrick.plan(written(tmp_path, {**content, "modules_to_save": "1"}, folders))
    assert any(f"the base {base} is not read" in note for note in plan.notes)


def test_long_names_beside_the_modules_fit_the_line(tmp_path, capfd):
    heads = [f"a.rather.long.way.to.{which}.classification_head" for which in ("one", "other", "third")]
    one = lora(0)
    one.settings["modules_to_save"] = heads
    one.more |= {f"{head}.weight": np.ones((5, 17), np.float32) for head in heads}
    folders = folders_of(tmp_path, [one])
    code, said, err = run(
        capfd, "plan", written(tmp_path, {"merge_method": "cat", "modules_to_save": "1"}, folders)
    )
    assert code == 0, err
    line = next(line for line in said.splitlines() if line.startswith("beside"))
    assert line.endswith("head.weight and 1 more")
    assert len(line) <= WIDTH


def run(capfd, *words):
    capfd.readouterr()
    code = main([str(word) for word in words])
    return code, *capfd.readouterr()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("command", ["plan", "dry run"])
def test_the_commands_show_it_and_write_nothing(command, name, pair, tmp_path, capfd):
    config, out = written(tmp_path, CASES[name][0], pair), tmp_path / "deep" / "out"
    before = sorted(tmp_path.rglob("*"))
    words = ["plan", config, out] if command == "plan" else ["merge", config, out, "--dry-run"]
    code, said, err = run(capfd, *words)
    assert code == 0, err
    assert sorted(tmp_path.rglob("*")) == before
    becomes = CASES[name][1](21, 17)
    row = next(line.split() for line in said.splitlines() if line.startswith("q_proj"))
    assert row[:4] == ["q_proj", "1", "2", "3"]
    assert " ".join(row[4:-4]) == (str(becomes) if name in ONE_STAGE else f"≤ {becomes}")
    for text in (str(CASES[name][0]["merge_method"]), "peak memory", "free disk", "output", "read"):
        assert text in said
    lines = [line for line in said.splitlines() if str(tmp_path) not in line]
    assert max(map(len, lines)) <= WIDTH
    assert ("nothing was written" in said) == (command == "dry run")


def test_json(pair, tmp_path, capfd):
    config = written(tmp_path, {**KNOTS, "rank": 2}, pair)
    code, said, _ = run(capfd, "plan", config, "--json")
    assert code == 0
    plan = json.loads(said)
    assert plan == json.loads(carrick.plan(config).to_json())
    assert (plan["format"], plan["version"]) == ("carrick-adapter-plan", 1)
    assert plan["adapters"][1] == {
        "ref": str(pair[1]), "revision": None, "modules": 3, "rank": 3,
        "dtypes": {"F32": data_bytes(pair[1])}, "parameters": {"weight": 1.0, "density": 0.5},
    }  # fmt: skip
    assert plan["modules"][0] == {
        "path": Q.format(0), "kind": "linear", "shape": [21, 17], "ranks": [2, 3], "rank": 2,
        "weights": [1.0, 1.0], "dtype": "F32",
    }  # fmt: skip
    code, said, _ = run(capfd, "merge", config, tmp_path / "out", "--dry-run", "--json")
    assert code == 0
    report = json.loads(said)
    assert (report["dry_run"], report["tensors"]) == (True, 6)
    assert {key: report[key] for key in ("bytes_read", "bytes_written")} == {
        key: plan[key] for key in ("bytes_read", "bytes_written")
    }


def test_a_plan_of_adapters_cannot_be_run(pair, tmp_path, capfd):
    config = written(tmp_path, {"merge_method": "cat"}, pair)
    (tmp_path / "plan.json").write_text(carrick.plan(config).to_json())
    code, said, err = run(capfd, "merge", "--plan", tmp_path / "plan.json", tmp_path / "out")
    assert (code, said) == (2, "")
    assert "plan.json: is the plan of a merge of adapters" in err
    assert "carrick merge CONFIG OUT" in err
    with pytest.raises(carrick.ConfigError, match="merge its configuration"):
        carrick.merge(None, tmp_path / "out", plan=carrick.plan(config))
    assert not (tmp_path / "out").exists()


def test_what_a_plan_refuses(pair, tmp_path, capfd, monkeypatch):
    cat = {"merge_method": "cat"}

    def refused(content, *words, says):
        before = sorted(tmp_path.rglob("*"))
        config = written(tmp_path, content, pair)
        for command in (["plan", config, tmp_path / "out"], ["merge", config, tmp_path / "out", "--dry-run"]):
            code, said, err = run(capfd, *command, *words)
            assert (code, said) == (2, ""), err
            assert err.count("error: ") == 1
            assert says in err
        assert sorted({*tmp_path.rglob("*")} - {config}) == [path for path in before if path != config]

    refused(cat, "--seed", "-1", says="seed is -1")
    refused(cat, "--shard-size", "5GB", says="have no shard size")
    refused(TIES, says="not of low rank")
    refused({**cat, "tokenizer_source": "base"}, says="have no tokenizer")
    refused({**cat, "extra_tensors": "base"}, says="have no `extra_tensors`")
    refused({"merge_method": "layer_swap"}, says="nothing is left for the task expert")
    monkeypatch.setattr(output_module, "free_bytes", lambda _out: 1000)
    refused(cat, says="are needed and")
