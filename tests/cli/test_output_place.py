"""Where nothing can be written, and what `plan` says of it: known before any work, with path, reason and remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from carrick.errors import PlanError
from carrick.output_folder import check_can_be_made

ANY = Path("missing")
COMMANDS = {
    "merge": ("merge", "CONFIG", "OUT"),
    "dry run": ("merge", "CONFIG", "OUT", "--dry-run"),
    "plan": ("plan", "CONFIG", "OUT"),
    "merge of adapters": ("adapters", "merge", ANY, ANY, "-o", "OUT"),
    "into a base": ("adapters", "merge", ANY, "--base", ANY, "--dense", "-o", "OUT"),
    "apply": ("adapters", "apply", ANY, ANY, "-o", "OUT"),
    "extract": ("adapters", "extract", ANY, ANY, "--rank", "2", "-o", "OUT"),
    "train": ("train", ANY, "OUT"),
    "train, dry": ("train", ANY, "OUT", "--dry-run"),
    "evaluate": ("evaluate", ANY, "--tasks", "xcopa", "--data", ANY, "-o", "OUT"),
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("place", ["file/out", "file/more/out"])
def test_a_file_is_no_place(carrick, models, tmp_path, words, place):
    if words[0] in {"train", "evaluate"}:
        pytest.importorskip("trl" if words[0] == "train" else "lm_eval")
    (tmp_path / "file").write_text("a file")
    out, config = tmp_path / place, models.config()
    before = sorted(tmp_path.rglob("*"))
    answer = carrick(*({"CONFIG": config, "OUT": out}.get(word, word) for word in words))
    assert (answer.code, answer.out) == (2, "")
    file = tmp_path / "file"
    assert answer.err == (
        f"error: {out}: {file} is no folder, so nothing can be made in it; choose another place\n"
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", [COMMANDS["merge"], COMMANDS["plan"], COMMANDS["merge of adapters"]])
def test_the_root_is_no_place(carrick, models, words):
    config = models.config()
    answer = carrick(*({"CONFIG": config, "OUT": "/"}.get(word, word) for word in words))
    assert answer.code == 2
    assert answer.err == "error: / is the root of a disk, and no folder to write; choose another place\n"


def test_a_link_to_nothing_is_no_place(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(PlanError, match="link is no folder"):
        check_can_be_made(tmp_path / "link" / "out")
    check_can_be_made(tmp_path / "new" / "folders" / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link"]


def test_where_nothing_may_be_written(carrick, models, tmp_path, monkeypatch):
    """Root may write everywhere, so the answer of the operating system is made up."""
    locked = tmp_path / "locked"
    locked.mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != locked and mode is not None)
    answer = carrick("merge", models.config(), locked / "deep" / "out")
    assert answer.code == 2
    assert answer.err == (
        f"error: {locked / 'deep' / 'out'}: nothing may be written in {locked}; choose another place, or change its "
        "permissions\n"
    )


def test_names_that_no_folder_can_have(carrick, models, tmp_path):
    """The folder beside the output, where a run works, has a longer name."""
    answer = carrick("merge", models.config(), tmp_path / ("ä" * 120))
    assert answer.code == 2
    assert "too long for a folder; choose a shorter one" in answer.err
    assert carrick("merge", models.config(), tmp_path / ("ä" * 110)).code == 0


def test_a_plan_says_that_the_output_is_taken(carrick, models, out):
    config = models.config()
    assert carrick("merge", config, out).code == 0
    for more in ([], ["--json"]):
        answer = carrick("plan", config, out, *more)
        assert answer.code == 0
        assert f"note: {out} exists already: to replace it the merge needs --force" in answer.err
    assert "exists already" not in carrick("plan", config, out.with_name("other")).err


def test_a_plan_refuses_what_not_even_force_replaces(carrick, models, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    answer = carrick("plan", models.config(), tmp_path / "thesis")
    assert answer.code == 2
    assert "holds no model" in answer.err
