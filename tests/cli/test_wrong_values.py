"""Values that an option cannot have: one line that names the option, the value and what it takes."""

from __future__ import annotations

import pytest

from carrick.cli.wrong_value import wrong_value

MERGE = ["merge", "a.yml", "out"]
ADAPTERS = ["adapters", "merge", "a", "-o", "out"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*MERGE, "--threads", "two"], "--threads is `two`: give a whole number"),
        ([*MERGE, "--seed", "1.5"], "--seed is `1.5`: give a whole number"),
        ([*ADAPTERS, "--density", "half"], "--density is `half`: give a number"),
        ([*ADAPTERS, "-r", "big"], "--rank is `big`: give a whole number"),
        (
            [*MERGE, "--read", "mmmap"],
            "--read is `mmmap`: it is one of auto, pread, mmap; did you mean `mmap`?",
        ),
        ([*MERGE, "--read", "magic"], "--read is `magic`: it is one of auto, pread, mmap"),
        (
            ["similarity", "a", "b", "--by", "leyer"],
            "--by is `leyer`: it is one of layer, module, tensor; did you mean `layer`?",
        ),
        ([*ADAPTERS, "--space", "x"], "--space is `x`: it is one of delta, factors"),
        (
            [*ADAPTERS, "--precision", "float23"],
            "--precision is `float23`: it is one of float32, float64; did you mean `float32`?",
        ),
        (["train", "a", "b", "--device", "gpu"], "--device is `gpu`: it is one of auto, cpu, cuda"),
    ],
)
def test_the_option_the_value_and_what_it_takes(carrick, words, said):
    answer = carrick(*words)
    assert (answer.code, answer.out, answer.err) == (2, "", f"error: {said}\n")


class Parameter:
    opts = ("-t", "--threads")


class ClickError(Exception):
    """What typer raised before 0.29: the value stands in the message."""

    def __init__(self, message):
        super().__init__(message)
        self.message = message
        self.param = Parameter()


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("'two' is not a valid integer.", "--threads is `two`: give a whole number"),
        ("'x' is not a valid float.", "--threads is `x`: give a number"),
        ("'oen' is not one of 'one', 'all'.", "--threads is `oen`: it is one of one, all"),
        ("Directory 'x' does not exist.", None),
    ],
)
def test_older_parsers_are_read_too(message, said):
    assert wrong_value(ClickError(message)) == said
