"""``carrick study`` as a user types it: output, exit codes, messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carrick.cli import main
from carrick.study import registry
from carrick.study.registry import STUDIES, Study

if TYPE_CHECKING:
    from pathlib import Path

    from carrick.study import StudyRun


def test_list_names_every_study(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list"]) == 0
    out = capsys.readouterr().out
    assert all(study.name in out for study in STUDIES)
    assert main(["study", "list", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == [study.name for study in STUDIES]


def test_a_dry_run_fits_the_screen_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "study",
        "run",
        "languages",
        "--out",
        str(tmp_path / "out"),
        "--data",
        str(tmp_path),
        "--dry-run",
    ]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= 100
    assert "155 stages, 155 to run (no input)" in captured.out
    assert "note: not there: train_text" in captured.err or "not there: " in captured.err
    assert not (tmp_path / "out").exists()
    assert main([*words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["stages"][0]["missing"]
    assert main([*words, "--seeds", "5", "--json"]) == 0
    names = {stage["name"] for stage in json.loads(capsys.readouterr().out)["stages"]}
    assert "train-en-5" in names
    assert "train-en-0" not in names


def test_home_folders_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["study", "run", "languages", "--out", "~/out", "--data", "~/data", "--dry-run"]) == 0
    captured = capsys.readouterr()
    assert f"{tmp_path}/data/" in captured.out + captured.err
    assert main(["study", "report", "languages", "--from", "~/no.json"]) == 2
    assert f"{tmp_path}/no.json: there is no such file" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["list"], ["run", "lsm", "--dry-run"], ["run", "xlt", "--dry-run"]])
def test_sentences_are_wrapped_and_not_cut(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", *words]) == 0
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert max(len(line) for line in printed.splitlines()) <= 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "langauges", "--quick"], "did you mean `languages`"),
        (["run", "languages"], "name its folder (--data DIR)"),
        (["run", "languages", "--seeds", "0,x", "--quick"], "--seeds 0,x: give whole numbers"),
        (["run", "languages", "--quick", "--jobs", "0"], "jobs is 0"),
        (["run", "languages", "--quick", "--recipe", "no.yml"], "there is no such file"),
        (["report", "languages", "--from", "no.json"], "`carrick study run languages` writes it"),
    ],
)
def test_wrong_requests_are_one_sentence(
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("out", "no such file or folder; `languages` reads xlmt_sentiment/ in the folder that --data names"),
        ("data", "data: holds the data that the study reads; name another folder for it (--out DIR)"),
        ("file/out", "file is no folder, so nothing can be made in it; choose another place"),
        ("file", "file is no folder, so nothing can be made in it; choose another place"),
    ],
)
def test_without_data_or_a_place_nothing_is_left_behind(
    out: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("a file")
    (tmp_path / "data").mkdir()
    words = ["study", "run", "languages", "--data", str(tmp_path / "data"), "--out", str(tmp_path / out)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "file"]


def test_a_report_without_a_place_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("a file")
    words = ["study", "report", "languages", "--from", str(tmp_path / "no.json"), "--out"]
    assert main([*words, str(tmp_path / "file" / "report")]) == 2
    assert f"{tmp_path / 'file'} is no folder" in capsys.readouterr().err


def test_a_failed_stage_is_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing = Study("failing", "fails", "study.failing")
    monkeypatch.setattr(registry, "STUDIES", (failing,))
    monkeypatch.setattr(Study, "recipe_file", tmp_path / "failing.yml")
    (tmp_path / "failing.yml").write_text("text: x\n")
    words = ["study", "run", "failing", "--out", str(tmp_path / "out"), "--data", str(tmp_path)]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert "1 stage run, 0 done before, 1 failed, 1 not begun" in captured.out
    assert "stage bad failed: ValueError: bad was made to fail" in captured.err
    assert "the same command goes on from there" in captured.err
    assert "Traceback" not in captured.err
    assert main([*words, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert list(told["failed"]) == ["bad"]


@pytest.mark.xdist_group("study-languages")
def test_report_prints_its_files(
    quick_languages: StudyRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = quick_languages.out / "report" / "results.json"
    assert (
        main(["study", "report", "languages", "--from", str(source), "--out", str(tmp_path), "--json"]) == 0
    )
    files = json.loads(capsys.readouterr().out)
    assert str(tmp_path / "report.html") in files
