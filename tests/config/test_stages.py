"""Files of several documents."""

import pytest

from carrick.config import load, loads
from carrick.errors import ConfigError

LINEAR = "merge_method: linear\nparameters: {weight: 1}\n"


def document(name, *models):
    listed = "".join(f"- model: {model}\n" for model in models)
    return f"{f'name: {name}' if name else '# output'}\n{LINEAR}models:\n{listed}"


def test_documents_run_after_those_they_refer_to():
    documents = loads(
        "---\n".join(
            [
                document(None, "b", "X"),
                document("b", "c", "a"),
                document("a", "X", "Y"),
                document("c", "a", "Y"),
            ]
        )
    )
    assert [each.name for each in documents] == ["a", "c", "b", None]
    assert [each.depends_on for each in documents] == [(), ("a",), ("c", "a"), ("b",)]
    assert not any(each.notes for each in documents)


def test_a_base_may_be_an_intermediate():
    ties = "merge_method: ties\nbase_model: a\nmodels: [{model: X, parameters: {weight: 1}}]\n"
    documents = loads(ties + "---\n" + document("a", "X", "Y"))
    assert [(each.name, each.depends_on) for each in documents] == [("a", ()), (None, ("a",))]


def test_a_revision_names_a_model_and_no_document():
    documents = loads(document(None, "a@main", "a") + "---\n" + document("a", "X", "Y"))
    assert [each.depends_on for each in documents] == [(), ("a",)]
    documents = loads(document(None, "a@main", "B") + "---\n" + document("a", "X", "Y"))
    assert [each.depends_on for each in documents] == [(), ()]


@pytest.mark.parametrize(
    ("texts", "line", "message"),
    [
        (
            [document(None, "A", "B")] * 2,
            9,
            "two documents have no `name`; name all but the one whose result is the output",
        ),
        (
            [document("a", "A", "B"), document("b", "A", "B")],
            8,
            "every document has a `name`; leave it out of the one",
        ),
        (
            [document(None, "A", "B"), document("a", "A", "B"), document("a", "A", "C")],
            15,
            "two documents are named `a`",
        ),
        (
            [document(None, "a", "B"), document("a", "b", "B"), document("b", "a", "B")],
            8,
            "documents refer to one another in a circle: a → b → a; break it",
        ),
        (
            [document(None, "A", "B"), document("a", "a", "B")],
            8,
            "documents refer to one another in a circle: a → a",
        ),
        (
            [document(None, "A", "B"), document("../a", "A", "B")],
            8,
            "`name` is `../a`; it names a folder beside the output",
        ),
        (
            [document(None, "A", "B"), document("..", "A", "B")],
            8,
            "`name` is `..`; it names a folder beside the output",
        ),
    ],
)
def test_documents_that_cannot_be_ordered(texts, line, message):
    with pytest.raises(ConfigError) as caught:
        loads("---\n".join(texts), "c.yml")
    assert message in caught.value.message
    assert caught.value.line == line


def test_names_that_change_nothing_are_noted():
    (only,) = loads(document("a", "A", "B"), "c.yml")
    assert only.name is None
    assert only.notes == ("c.yml:1: the only document is the output; its name `a` changes nothing.",)
    unused, _ = loads(document("a", "A", "B") + "---\n" + document(None, "A", "B"), "c.yml")
    assert unused.notes == ("c.yml:1: no other document refers to `a`.",)


def test_mappings_may_be_several_documents():
    one = {"merge_method": "linear", "parameters": {"weight": 1}, "models": [{"model": "A"}, {"model": "B"}]}
    documents = load([one | {"models": [{"model": "a"}, {"model": "B"}]}, one | {"name": "a"}])
    assert [each.name for each in documents] == ["a", None]
    assert [each.depends_on for each in loads(documents[0].text)] == [(), ("a",)]
