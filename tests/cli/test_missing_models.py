"""Models that a YAML names and that are not there: told with its file and line."""

from __future__ import annotations

import pytest

HERE = """\
merge_method: task_arithmetic
base_model: base
models:
- model: math
- model: code
parameters: {weight: 1}
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("base_model: base", "base_model: ./bsae", 2, "./bsae: no such file or folder; did you mean"),
        ("math", "./mth", 4, "./mth: no such file or folder; did you mean"),
        ("code", "org/cod@main", 5, "org/cod at revision 'main': "),
        ("code", "base+./nothing", 5, "./nothing: no such file or folder"),
        ("code", "{model: {path: ./cod}, lora: math}", 5, "./cod: no such file or folder"),
        ("parameters", "tokenizer_source: ./nowhere\nparameters", 6, "./nowhere: no such file or folder"),
        ("code", "empty", 5, "MODELS/empty: has no .safetensors file"),
    ],
)
def test_the_line_is_told(carrick, models, tmp_path, monkeypatch, *, old, new, line, told):
    (models.root / "empty").mkdir()
    monkeypatch.chdir(models.root)
    (tmp_path / "c.yml").write_text(HERE.replace(old, new))
    for command in (["plan"], ["merge", tmp_path / "out"]):
        answer = carrick(command[0], tmp_path / "c.yml", *command[1:])
        assert answer.code == 2
        assert answer.err.startswith(
            f"error: {tmp_path / 'c.yml'}:{line}: {told.replace('MODELS', str(models.root))}"
        )
        assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_what_is_given_as_an_argument_has_no_line(carrick, models, tmp_path):
    answer = carrick("adapters", "apply", models.root / "bsae", models.root / "math", "-o", tmp_path / "out")
    assert answer.code == 2
    assert answer.err.startswith(f"error: {models.root / 'bsae'}: no such file or folder")


@pytest.mark.parametrize(
    ("command", "first"),
    [("merge", "`merge_method` and `models`"), ("train", "`base`, `data` and `training`")],
)
def test_an_empty_file_says_how_to_begin(carrick, tmp_path, command, first):
    if command == "train":
        pytest.importorskip("trl")
    (tmp_path / "empty.yml").write_text("# to be written\n")
    answer = carrick(command, tmp_path / "empty.yml", tmp_path / "out")
    assert answer.code == 2
    assert answer.err == f"error: {tmp_path / 'empty.yml'}: the configuration is empty; begin with {first}\n"
