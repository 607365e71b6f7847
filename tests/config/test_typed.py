"""Recipes as pydantic models: every mistake is one sentence with its place and the nearest name."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field, field_validator

from carrick.config.typed import Recipe, load_typed
from carrick.errors import ConfigError


class Source(Recipe):
    file: str
    rows: int | None = Field(default=None, gt=0)


class Whole(Recipe):
    base: str
    task: Literal["causal", "classification"]
    data: list[Source] | Source = Field(default=[])
    rate: float = 1e-4

    @field_validator("base")
    @classmethod
    def _named(cls, base: str) -> str:
        if " " in base:
            raise ValueError(f"`base` is `{base}`; names have no spaces")
        return base


def read(text, tmp_path):
    file = tmp_path / "recipe.yml"
    file.write_text(text, "utf-8")
    return load_typed(file, Whole, "a recipe")


def test_values_and_defaults(tmp_path):
    found = read("base: a\ntask: causal\ndata: [{file: x, rows: 3}]\nrate: 3e-5\n", tmp_path)
    assert (found.base, found.rate, found.data) == ("a", 3e-5, [Source(file="x", rows=3)])
    assert load_typed({"base": "a", "task": "causal", "rate": 1}, Whole, "a recipe").rate == 1.0


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("bose: a\ntask: causal\n", 1, "`bose` is not a key of a recipe; did you mean `base`?"),
        (
            "base: a\ntask: causal\nx: 1\n",
            3,
            "`x` is not a key of a recipe; the keys here are base, task, data, rate",
        ),
        (
            "base: a\ntask: causal\ndata:\n  - file: x\n    row: 3\n",
            5,
            "`row` is not a key of `data[0]`; did you mean `rows`?",
        ),
        ("base: a\ntask: cusal\n", 2, "`task` is `cusal`; did you mean `causal`?"),
        ("base: a\ntask: zzz\n", 2, "`task` is `zzz`; it can be causal, classification"),
        ("task: causal\n", 1, "`base` is missing from a recipe"),
        ("base: a b\ntask: causal\n", 1, "`base` is `a b`; names have no spaces"),
        ("base: a\ntask: causal\nrate: fast\n", 3, "`rate` is `fast`: input should be a valid number"),
        ("base: 3\ntask: causal\n", 1, "`base` is `3`: input should be a valid string"),
        ("base: a\ntask: causal\nrate: .nan\n", 3, "`rate` is `nan`: input should be a finite number"),
        ("- base\n", 1, "a recipe is a list; it has to be a mapping of keys to values"),
    ],
)
def test_mistakes_say_where_and_what(text, line, message, tmp_path):
    with pytest.raises(ConfigError) as found:
        read(text, tmp_path)
    assert (found.value.line, found.value.message) == (line, message)


def test_one_document_and_a_file_that_is_there(tmp_path):
    with pytest.raises(ConfigError, match="a recipe is one YAML document; the file holds 2"):
        read("base: a\n---\nbase: b\n", tmp_path)
    with pytest.raises(ConfigError, match=r"there is no such file; did you mean `recipe\.yml`"):
        load_typed(tmp_path / "recpie.yml", Whole, "a recipe")
    with pytest.raises(ConfigError, match="this is a folder; give the YAML file itself"):
        load_typed(tmp_path, Whole, "a recipe")


def test_mappings_name_the_path_of_keys():
    with pytest.raises(ConfigError, match=r"^data\[0\].row: `row` is not a key of `data\[0\]`"):
        load_typed({"base": "a", "task": "causal", "data": [{"file": "x", "row": 1}]}, Whole, "a recipe")
