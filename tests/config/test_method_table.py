"""The method table as typed objects."""

import pytest

from carrick import methods


def test_every_row_is_typed():
    for name, method in methods.load().items():
        assert methods.get(name) is method
        for row in method.parameters:
            assert row.required == (row.default is None)
            assert (row.choices is not None) == (row.type == "choice")
        for variant in method.variants:
            for key, value in variant.options:
                parameter = method.parameter(key)
                assert parameter is not None
                assert value in (parameter.choices or (True, False))


def test_a_name_that_is_not_there():
    with pytest.raises(KeyError, match=r"`tise` is not a merge method; did you mean `ties`\?"):
        methods.get("tise")
    assert methods.get("ties").parameter("denisty") is None
    assert methods.get("ties").variant("papr") is None


@pytest.mark.parametrize(
    ("name", "parameter", "span"),
    [
        ("ties", "density", "a number between 0 and 1"),
        ("ties", "normalize", "true or false"),
        ("ties", "trim_scope", "`tensor` or `model`"),
        ("slerp", "t", "a finite number"),
    ],
)
def test_ranges_in_words(name, parameter, span):
    assert methods.get(name).parameter(parameter).span == span
