"""Help pages: they fit the width, no sentence is cut, and what they promise is what is asked for."""

from __future__ import annotations

import re

import pytest
from typer.main import get_command

from carrick.cli.app import app


def pages(command, words=()):
    """The words before `--help`, of every command and group."""
    yield list(words)
    for name, each in getattr(command, "commands", {}).items():
        yield from pages(each, [*words, name])


PAGES = list(pages(get_command(app)))


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_every_page_fits_and_nothing_is_cut(carrick, monkeypatch, words, width):
    monkeypatch.setenv("COLUMNS", str(width))
    answer = carrick(*words, "--help")
    assert answer.code == 0
    assert all(len(line) <= width for line in answer.out.splitlines())
    assert "..." not in answer.out.partition("\nCommands:\n")[2]


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_numbers_and_names_are_called_alike_everywhere(carrick, words):
    said = carrick(*words, "--help").out.partition("\nOptions:\n")[2]
    assert not re.search(r"--[\w-]+ <(int|float|str|path)>", said)


def test_there_is_a_page_for_everything():
    assert len(PAGES) >= 20


def test_adapters_are_on_the_first_page(carrick):
    assert "checkpoints and LoRA adapters" in carrick("--help").out
    assert "Merge, apply, extract and look at LoRA adapters." in carrick("--help").out


def test_a_merge_needs_a_configuration_unless_there_is_a_plan(carrick):
    assert "[required]" not in carrick("merge", "--help").out
    assert carrick("merge").err.endswith("output folder: carrick merge CONFIG OUT\n")
    assert carrick("merge", "--plan", "x").err == (
        "error: name the output folder: carrick merge --plan FILE OUT\n"
    )
