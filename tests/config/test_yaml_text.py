"""YAML 1.2 with lines, and texts made to do harm."""

import pytest

from carrick.config.tree import ListNode, MapNode, Scalar
from carrick.config.yaml_text import read_text
from carrick.errors import ConfigError


def plain(node):
    match node:
        case MapNode():
            return {key: plain(value) for key, value in node.entries.items()}
        case ListNode():
            return [plain(item) for item in node.items]
        case Scalar():
            return node.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("-1E+3", -1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("12", 12),
        ("012", 12),
        ("0o14", 12),
        ("0x1f", 31),
        ("1_000", 1000),
        ("+7", 7),
        ("~", None),
        ("null", None),
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("!!str 5", "5"),
        ("!!float 5", 5),
        ("2001-01-01", "2001-01-01"),
        ("1:30", "1:30"),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("=", "="),
        ("|\n  two\n  lines", "two\nlines"),
        ("[1, [2, x]]", [1, [2, "x"]]),
    ],
)
def test_words_mean_what_yaml_1_2_says(text, value):
    (tree,) = read_text(f"key: {text}", "c.yml")
    got = plain(tree)["key"]
    assert got == value
    assert type(got) is type(value) or text == "!!float 5"


def test_values_know_line_column_and_key():
    (tree,) = read_text("a:\n  - b: 1\n    c:  two\n", "c.yml")
    inner = tree.entries["a"].items[0]
    where = inner.entries["c"].where
    assert (where.file, where.line, where.column, where.key) == ("c.yml", 3, 9, "a[0].c")
    assert (inner.keys["c"].line, inner.keys["c"].column) == (3, 5)


def test_empty_documents_are_left_out():
    assert [plain(tree) for tree in read_text("---\na: 1\n---\n---\nb: 2\n...\n", "c.yml")] == [
        {"a": 1},
        {"b": 2},
    ]


BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + index)}: &{chr(98 + index)} [{', '.join(['*' + chr(97 + index)] * 10)}]\n"
    for index in range(12)
)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", None, "the configuration is empty; begin with `merge_method` and `models`"),
        ("# nothing\n---\n...\n", None, "the configuration is empty"),
        ("a: 1\nb: 2\na: 3\n", 3, "`a` is given twice (first in line 1); remove one of them"),
        ("a: [1,\nb: 2\n", None, "not valid YAML: "),
        ("a: 1\n\tb: 2\n", 2, "not valid YAML: "),
        ("a: \x07\n", 1, "not valid YAML: "),
        ("a: *missing\n", 1, "not valid YAML: "),
        (
            "a: 1\nb: !!python/object/apply:os.system [x]\n",
            2,
            "the tag `python/object/apply:os.system` is not read",
        ),
        ("a: !secret x\n", 1, "the tag `!secret` is not read"),
        ("a: !!set {x}\n", 1, "the tag `set` is not read"),
        ("? [1, 2]\n: 3\n", 1, "a key has to be text"),
        ("1: 3\n", 1, "a key has to be text"),
        ("a: " + "[" * 40 + "]" * 40, 1, "lists and mappings nest too deeply; 32 levels are allowed"),
        ("[" * 100_000, None, "lists and mappings nest too deeply"),
        ("a: &a [*a]\n", 1, "lists and mappings nest too deeply"),
        (BOMB, None, "the text expands to more than 200000 values; write out what its aliases repeat"),
        ("a: " + "9" * 500, 1, "is not a number"),
        ("a: {<<: 5}", 1, "`<<` takes a mapping or a list of mappings"),
        ("a" * 5_000_000, None, "the text has 5000000 characters; a configuration may have"),
    ],
)
def test_a_text_that_is_refused(text, line, message):
    with pytest.raises(ConfigError) as caught:
        read_text(text, "c.yml")
    error = caught.value
    assert message in error.message
    assert error.file == "c.yml"
    assert line is None or error.line == line
    assert str(error).startswith("c.yml" if error.line is None else f"c.yml:{error.line}: ")


@pytest.mark.parametrize(
    ("word", "value"), [("yes", True), ("On", True), ("true", True), ("no", False), ("OFF", False)]
)
def test_words_under_a_directive_of_yaml_1_1(word, value):
    (tree,) = read_text(f"%YAML 1.1\n---\nkey: {word}\n", "c.yml")
    assert plain(tree) == {"key": value}
