"""Where a training may go: never over what it reads, whatever --force says."""

from __future__ import annotations

import shutil

import pytest
import yaml

from carrick.cli import main
from carrick.errors import PlanError
from train.llama_adapters import quiet, save_adapter
from train.tiny import jsonl, llama, questions

pytest.importorskip("trl")
pytestmark = quiet

DATA = {"train": {"file": "rows/qa.jsonl", "language": "en"}}
RECIPES = {
    "fine_tune": {"data": {**DATA, "validation": [{"file": "kept/qa.jsonl", "language": "en"}]}},
    "language_adapter": {"data": DATA, "task_adapter": ["./ta", "./ta2"], "adapter": {"rank": 1}},
    "alignment": {"data": DATA, "task_adapter": "./ta", "language_adapter": "./la", "adapter": None},
    "mixture": {"data": DATA, "adapters": ["./ta", "./la"], "adapter": None},
    "simultaneous": {
        "sources": {"task": DATA, "language": {"train": {"file": "other/qa.jsonl", "language": "de"}}},
        "partition": {"name": "B"},
        "data": None,
    },
    "classification": {"task": "classification", "head": "head", "data": DATA},
    "dataset": {"data": {"train": {"dataset": "DATASET"}}},
}


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock")
    llama(folder / "base")
    for name in ("ta", "ta2", "la", "head", "rows", "kept", "other", "set"):
        # As a folder with a model's signs, which --force replaces.
        save_adapter(folder / name, 0)
        jsonl(folder / name / "qa.jsonl", questions(4))
    return folder


@pytest.fixture
def place(stock, tmp_path):
    return shutil.copytree(stock, tmp_path / "work")


def written(place, kind):
    common = {"base": "./base", "adapter": {"rank": 2, "targets": ["q_proj"]}, "training": {"steps": 1}}
    method = {} if kind in {"classification", "dataset"} else {"method": kind}
    content = {
        key: value for key, value in {**common, **method, **RECIPES[kind]}.items() if value is not None
    }
    text = yaml.safe_dump(content).replace("DATASET", str(place / "set"))
    (place / "recipe.yml").write_text(text)
    return place / "recipe.yml"


def held(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("fine_tune", ["base", "rows", "kept"]),
        ("language_adapter", ["base", "rows", "ta", "ta2"]),
        ("alignment", ["base", "ta", "la"]),
        ("mixture", ["base", "ta", "la"]),
        ("simultaneous", ["base", "rows", "other"]),
        ("classification", ["base", "head"]),
        ("dataset", ["set"]),
    ],
)
def test_no_input_is_replaced(place, capsys, kind, names):
    recipe = written(place, kind)
    before = held(place)
    for name in names:
        for more in ([], ["--dry-run"]):
            assert main(["train", str(recipe), str(place / name), "--force", "--device", "cpu", *more]) == 2
            said = capsys.readouterr().err
            assert said.startswith(f"error: {place / name}: ")
            assert said.count("\n") == 1
            assert "the input" in said
            assert "choose another" in said
        assert held(place) == before


def test_a_folder_in_an_input_takes_nothing_away(place, capsys):
    """An adapter may lie in the folder of its base."""
    recipe = written(place, "fine_tune")
    assert main(["train", str(recipe), str(place / "base" / "en"), "--device", "cpu", "--dry-run"]) == 0
    assert "nothing was trained" in capsys.readouterr().out


def test_an_input_in_the_unfinished_output_stays(place, capsys):
    """A checkpoint of an interrupted training is where the next one begins by removing what is not its own."""
    unfinished = place / "en.carrick-partial" / "checkpoint"
    shutil.copytree(place / "base", unfinished)
    recipe = written(place, "fine_tune")
    recipe.write_text(recipe.read_text().replace("./base", "./en.carrick-partial/checkpoint"))
    before = held(place)
    assert main(["train", str(recipe), str(place / "en"), "--device", "cpu"]) == 2
    assert f"the input {unfinished} lies in it" in capsys.readouterr().err
    assert held(place) == before


@pytest.mark.parametrize("name", ["base", "ta"])
def test_a_reset_replaces_neither(place, name):
    resets = pytest.importorskip("carrick.train.reset")
    from carrick.train.recipe import Partition  # noqa: PLC0415

    before = held(place)
    side = Partition(match="q_proj", side="language")
    with pytest.raises(PlanError, match="is the input"):
        resets.reset(place / "base", place / "ta", place / name, side, force=True)
    assert held(place) == before
