"""References to models with adapters: texts and mappings are read alike, and a reference is its own text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carrick.config import loads
from carrick.config.location import Location
from carrick.config.model_ref import AdapterRef, ModelRef, read_model_ref
from carrick.config.objects import read_object


def read(value):
    return read_model_ref(read_object(value, Location()), "`model`", [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("base", ModelRef("base")),
        ("base+a", ModelRef("base", adapters=(AdapterRef("a"),))),
        ("base+a:0.5", ModelRef("base", adapters=(AdapterRef("a", None, 0.5),))),
        ("base+a:-2", ModelRef("base", adapters=(AdapterRef("a", None, -2.0),))),
        ("base+a:1e+2", ModelRef("base", adapters=(AdapterRef("a", None, 100.0),))),
        ("base+a:b:3.", ModelRef("base", adapters=(AdapterRef("a:b", None, 3.0),))),
        ("base+a:half", ModelRef("base", adapters=(AdapterRef("a:half"),))),
        ("org/m@v1+org/a@v2:.5", ModelRef("org/m", "v1", adapters=(AdapterRef("org/a", "v2", 0.5),))),
        ("base+a+b:2", ModelRef("base", adapters=(AdapterRef("a"), AdapterRef("b", None, 2.0)))),
        ("base:0.5", ModelRef("base:0.5")),  # a weight belongs to an adapter
    ],
)
def test_texts(text, expected):
    assert read(text) == expected
    assert read(str(expected)) == expected


@pytest.mark.parametrize(
    ("lora", "expected"),
    [
        (None, ()),
        ("a:0.5", (AdapterRef("a", None, 0.5),)),
        ({"path": "a:0.5"}, (AdapterRef("a:0.5"),)),
        ({"path": "a", "revision": "r", "weight": 2}, (AdapterRef("a", "r", 2.0),)),
        (["a", {"path": "b", "weight": 0.25}], (AdapterRef("a"), AdapterRef("b", None, 0.25))),
    ],
)
def test_mappings(lora, expected):
    assert read({"model": {"path": "m", "revision": "v"}, "lora": lora}) == ModelRef(
        "m", "v", adapters=expected
    )
    assert read({"model": "m", "lora": lora}) == ModelRef("m", adapters=expected)


def test_what_exists_is_taken_as_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a+b", "c@d", "e:0.5", "plain"):
        (tmp_path / name).mkdir()
    assert read("a+b") == ModelRef("a+b")
    assert read("c@d+e:0.5") == ModelRef("c@d", adapters=(AdapterRef("e:0.5"),))
    assert read("plain+a+b+e:0.5:2") == ModelRef(
        "plain", adapters=(AdapterRef("a+b"), AdapterRef("e:0.5", None, 2.0))
    )
    assert read("a+b+plain:1e-3") == ModelRef("a+b", adapters=(AdapterRef("plain", None, 1e-3),))


names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,8}", fullmatch=True)
revisions = st.none() | st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)
weights = st.floats(allow_nan=False, allow_infinity=False)
adapters = st.lists(st.builds(AdapterRef, names, revisions, weights), max_size=3).map(tuple)


@given(st.builds(ModelRef, names, revisions, st.just(Location()), adapters))
def test_a_reference_reads_its_own_text(ref):
    assert read(str(ref)) == ref


def test_the_same_base_with_other_adapters_is_another_model():
    (document,) = loads(
        "merge_method: ties\nbase_model: X\nparameters: {weight: 1}\n"
        "models: [{model: X+a}, {model: {model: X, lora: b}}, {model: X+a:0.5}]"
    )
    (part,) = document.parts
    assert [str(source.ref) for source in part.merged] == ["X+a", "X+b", "X+a:0.5"]
    assert str(document.donor) == "X"
