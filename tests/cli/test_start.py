"""Starting: what is imported, what the bare command says, how usage errors look."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import carrick

HEAVY = ["torch", "transformers", "pydantic", "numpy", "rich", "huggingface_hub", "ruamel", "carrick._core"]


def loaded_by(statement: str) -> set[str]:
    """Modules that a statement leaves in a fresh interpreter."""
    code = f"{statement}\nimport sys, json\nprint(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_import_loads_nothing_heavy():
    assert not loaded_by("import carrick").intersection(HEAVY)


def test_version_loads_nothing_heavy():
    start = "from carrick.cli import main; main(['--version'])"
    assert not loaded_by(start).intersection(HEAVY)


def test_merging_imports_no_torch(models, out):
    start = f"import carrick; carrick.merge({str(models.config())!r}, {str(out)!r})"
    assert not loaded_by(start).intersection({"torch", "transformers", "rich", "typer"})


@pytest.mark.parametrize("order", [("merge", "plan"), ("plan", "merge")])
def test_functions_are_not_hidden_by_submodules_of_the_same_name(order):
    code = "import carrick, carrick.plan, carrick.merge, types\n" + "\n".join(
        f"assert isinstance(carrick.{name}, types.FunctionType), carrick.{name}" for name in order
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    for name in carrick.__all__:
        if name != "arrays":
            assert getattr(carrick, name) is not None
    assert set(carrick.__all__) <= set(dir(carrick))


def test_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'merg'"):
        carrick.merg  # noqa: B018


def test_version(carrick_process):
    answer = carrick_process("--version")
    assert (answer.code, answer.out, answer.err) == (0, f"carrick {carrick.__version__}\n", "")


def test_bare_command_prints_help(carrick):
    answer = carrick()
    assert answer.code == 0
    for command in ("merge", "plan", "inspect", "compare", "methods", "schema", "doctor"):
        assert f"  {command} " in answer.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["merg"], "'merge'"),
        (["merge", "a.yml", "out", "--forse"], "--force"),
        (["merge", "a.yml", "out", "--threads", "many"], "--threads"),
        (["merge", "a.yml", "out", "--read", "magic"], "magic"),
        (["merge", "a.yml"], "CONFIG OUT"),
        (["merge", "a.yml", "out", "--plan", "p.json"], "--plan FILE OUT"),
        (["methods", "tise"], "ties"),
        (["inspect"], "'path'"),
    ],
)
def test_usage_errors_are_one_line_and_exit_2(carrick, words, hint):
    answer = carrick(*words)
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("error: ")
    assert answer.err.count("\n") == 1
    assert hint in answer.err


def test_debug_shows_the_traceback(carrick_process, tmp_path):
    plain = carrick_process("merge", tmp_path / "none.yml", tmp_path / "out")
    debug = carrick_process("merge", tmp_path / "none.yml", tmp_path / "out", CARRICK_DEBUG="1")
    assert plain.code == debug.code == 2
    assert "Traceback" not in plain.err
    assert "Traceback" in debug.err


def test_output_to_a_closed_pipe_is_no_traceback(models):
    pipe = f"{sys.executable} -m carrick inspect {models['base']} --json | head -c 1"
    done = subprocess.run(pipe, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{"
    assert done.stderr == ""
