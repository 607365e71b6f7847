"""`~user` of a user who is not there: one clear error, wherever a path is written."""

from __future__ import annotations

import pytest

from carrick.adapters.example import write_example
from carrick.home import absolute, expanded

NOBODY = "~no-such-user-at-all"
COMMANDS = {
    "merge": "merge {config} ~/out",
    "plan": "plan {config} ~/out",
    "a model": "inspect ~/model",
    "two models": "compare ~/one ~/two",
    "apply": "adapters apply {base} {adapter} -o ~/out",
    "an adapter": "adapters apply {base} ~/adapter -o out",
    "merge adapters": "adapters merge {adapter} {adapter} -o ~/out",
    "extract": "adapters extract {base} {base} -o ~/out -r 2",
    "similarity": "similarity ~/one ~/two",
    "heat map": "similarity {adapter} {adapter} --plot ~/picture.png",
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_user_who_is_not_there(carrick, models, tmp_path, monkeypatch, name):
    base, adapter = write_example()
    monkeypatch.chdir(tmp_path)
    text = COMMANDS[name].replace("~", NOBODY)
    answer = carrick(*text.format(config=models.config("c.yml"), base=base, adapter=adapter).split())
    assert answer.code == 2, answer.err
    assert answer.err.count("error: ") == 1
    assert NOBODY in answer.err
    assert "fault in Carrick" not in answer.err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_the_message_names_the_folder_and_what_to_write(carrick, models):
    answer = carrick("merge", models.config(), f"{NOBODY}/out")
    assert (
        f"`{NOBODY}` is the home folder of a user who is not known here; write the path in full" in answer.err
    )
    assert f"or `./{NOBODY}/out` for a folder of that name" in answer.err


def test_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert expanded("~/merged") == tmp_path / "merged"
    assert absolute("a/../b") == tmp_path / "b"
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert absolute("link") == tmp_path / "link"


@pytest.mark.parametrize("rank", ["0", "-1"])
def test_a_rank_below_one(carrick, rank, tmp_path):
    base, adapter = write_example()
    for words in (["merge", adapter], ["extract", base, base]):
        answer = carrick("adapters", *words, "-o", tmp_path / "out", "--rank", rank)
        assert answer.code == 2
        assert answer.err.count("error: ") == 1
        assert "rank" in answer.err
        assert rank in answer.err
        assert "1" in answer.err
    assert not (tmp_path / "out").exists()
