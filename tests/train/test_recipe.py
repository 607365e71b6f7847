"""The training recipe: defaults, and one clear sentence for everything that is wrong."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from carrick.errors import ConfigError
from carrick.train.recipe import load_recipe

PLAIN = {"base": "llama", "data": {"train": {"file": "en.jsonl"}}, "training": {"steps": 1}}


def recipe(**changes):
    content = deepcopy(PLAIN)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = content
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return content


def test_defaults():
    read, _ = load_recipe(recipe())
    assert (read.task, read.method, read.adapter) == ("causal", "fine_tune", None)
    assert (read.training.batch_size, read.training.learning_rate, read.training.keep) == (8, 2e-5, "best")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training__epochs": 2}, "training: `epochs` and `steps` exclude one another"),
        ({"training": {}}, "needs `epochs` or `steps`"),
        (
            {"training__steps": "1"},
            "training.steps: `training.steps` is `1`: input should be a valid integer",
        ),
        ({"training__schedule": "liner"}, "did you mean `linear`"),
        ({"training__warmup": 1.5}, "`warmup` is 1.5; it is a ratio below 1, or a whole number of steps"),
        ({"training__warmup": 0.1, "training__schedule": "constant"}, "use constant_with_warmup"),
        ({"training__evaluate_every": "epochs"}, "did you mean `epoch`"),
        ({"training__snapshots": [2]}, "`snapshots` names step 2, but the training ends at step 1"),
        ({"training__learning_rate": 0.0}, "training.learning_rate"),
        ({"training__max_length": 1}, "training.max_length: `training.max_length` is `1`"),
        ({"data__train": {"fle": "en.jsonl"}}, "`fle` is not a key of `data.train`; did you mean `file`"),
        ({"data__train": [{"file": "a", "langauge": "en"}]}, "did you mean `language`"),
        ({"data__train": []}, "an empty list of sources"),
        ({"data__train": {"file": "a", "dataset": "b"}}, "`file` or `dataset`, one of them"),
        (
            {"data__validation": {"fraction": 2}},
            "data.validation.fraction: `data.validation.fraction` is `2`",
        ),
        ({"data__validation": {"fiel": "a"}}, "did you mean `file`"),
        ({"data__columns": {"prompt": "q"}}, "`prompt` and `completion` together"),
        ({"adapter": {"rank": 0}}, "adapter.rank: `adapter.rank` is `0`"),
        ({"adapter": {"rank": 8, "targets": []}}, "`targets` is empty"),
        ({"sigma": 0.1}, "`sigma` belongs to the method `language_adapter`, the method here is `fine_tune`"),
        ({"method": "mixture"}, "the method `mixture` needs `adapters`"),
        ({"task": "classification"}, "a classification needs `head`"),
        ({"head": "head"}, "`head` belongs to `task: classification`"),
        ({"partition": {"side": "task"}}, "`partition` needs `name`"),
        ({"partition": {"match": "("}}, "no regular expression"),
        ({"search": {"learning_rate": [1e-4], "select": "validation"}}, "needs `data.validation`"),
        ({"search": {"learning_rate": []}}, "search.learning_rate"),
        (
            {"task": "classification", "head": "head", "data__chat": True},
            "`chat` is for prompts and answers; a classification reads its texts",
        ),
        ({"cost": {"price": -1}}, "cost.price"),
    ],
)
def test_mistakes(changes, words):
    with pytest.raises(ConfigError) as caught:
        load_recipe(recipe(**changes))
    assert words in str(caught.value)


def test_a_file_is_named_with_its_line(tmp_path):
    path = tmp_path / "recipe.yml"
    path.write_text("base: llama\ndata:\n  train: {file: a.jsonl}\ntraining:\n  stesp: 3\n")
    with pytest.raises(
        ConfigError, match=r"recipe\.yml:5: `stesp` is not a key of `training`; did you mean `steps`"
    ):
        load_recipe(path)


def test_paths_are_taken_from_where_the_recipe_lies(tmp_path):
    folder = tmp_path / "recipes"
    (tmp_path / "llama").mkdir(parents=True)
    folder.mkdir()
    path = folder / "en.yml"
    path.write_text(
        "base: ../llama\ntask: classification\nhead: ./head\n"
        "data: {train: {file: en.jsonl}, validation: [{file: ../de.jsonl}]}\ntraining: {steps: 1}\n"
    )
    read, where = load_recipe(path)
    located = read.located(where)
    assert located.base == str(tmp_path / "llama")
    assert located.head == str(folder / "head")
    assert Path(located.data.train.file) == folder / "en.jsonl"
    assert Path(located.data.validation[0].file) == tmp_path / "de.jsonl"
    assert read.data.train.file == "en.jsonl"


def test_a_hub_id_is_no_path(tmp_path):
    read, _ = load_recipe(recipe(base="org/model@main"))
    assert read.located(tmp_path).base == "org/model@main"
