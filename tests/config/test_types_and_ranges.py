"""A value of the wrong type, out of range or at the wrong level is refused with its line."""

import pytest


def ties(models="- {model: A, parameters: {weight: 1}}", rest=""):
    return f"merge_method: ties\nbase_model: base\nmodels:\n{models}\n{rest}"


MISTAKES = {
    "density of 1.5": (
        ties("- model: A\n  parameters:\n    weight: 1\n    density: 1.5"),
        7,
        "`density` is `1.5`; it has to be a number between 0 and 1",
    ),
    "density in a gradient": (
        ties(rest="parameters: {density: [1, -0.5]}\n"),
        5,
        "`density` is `-0.5`; it has to be a number bet",
    ),
    "density in a filter": (
        ties(rest="parameters:\n  density:\n  - filter: mlp\n    value: [0, 2]\n"),
        8,
        "`density` is `2`; it has to be a number between 0 and 1",
    ),
    "nan": (ties(rest="parameters: {lambda: .nan}\n"), 5, "`lambda` is `nan`; it has to be a finite number"),
    "inf": (
        ties(rest="parameters: {lambda: -.inf}\n"),
        5,
        "`lambda` is `-inf`; it has to be a finite number",
    ),
    "nan as text": (
        ties(rest="parameters: {lambda: 'nan'}\n"),
        5,
        "`lambda` is `nan`; it has to be a finite number",
    ),
    "words for a number": (
        ties(rest="parameters: {lambda: high}\n"),
        5,
        "`lambda` is `high`; it has to be a finite number",
    ),
    "boolean for a number": (
        ties(rest="parameters: {lambda: true}\n"),
        5,
        "`lambda` is `true`; it has to be a finite number",
    ),
    "huge number": (ties(rest=f"parameters: {{lambda: {'9' * 350}}}\n"), 5, "it has to be a finite number"),
    "number for a boolean": (
        ties(rest="parameters: {normalize: 2}\n"),
        5,
        "`normalize` is `2`; it has to be true or false",
    ),
    "no value": (
        ties(rest="parameters:\n  lambda:\n"),
        6,
        "`lambda` has no value; it has to be a finite number",
    ),
    "mapping for a value": (
        ties(rest="parameters: {lambda: {value: 1}}\n"),
        5,
        "`lambda` is a mapping; conditions are a list",
    ),
    "empty gradient": (ties(rest="parameters: {lambda: []}\n"), 5, "`lambda` is an empty list"),
    "mixed conditions": (
        ties(rest="parameters: {lambda: [{value: 1}, 2]}\n"),
        5,
        "`lambda` mixes values with conditions",
    ),
    "values then conditions": (
        ties(rest="parameters: {lambda: [1, {value: 2}]}\n"),
        5,
        "`lambda` is a mapping; it has to be a",
    ),
    "condition without value": (
        ties(rest="parameters: {lambda: [{filter: a}]}\n"),
        5,
        "this condition of `lambda` has no `value`",
    ),
    "filter that is a number": (
        ties(rest="parameters: {lambda: [{filter: 3, value: 1}]}\n"),
        5,
        "the `filter` of `lambda` is `3`",
    ),
    "negative seed": (
        ties(rest="seed: -1\n"),
        5,
        "`seed` is `-1`; it has to be a whole number from 0 to 18446744073709551615",
    ),
    "boolean seed": (ties(rest="seed: true\n"), 5, "`seed` is `true`; it has to be a whole number"),
    "scalar for a mapping": (
        "merge_method: ties\nmodels:\n- A\n",
        3,
        "an entry of `models` is `A`; it has to be a mapping",
    ),
    "scalar document": ("ties\n", 1, "the configuration is `ties`; it has to be a mapping of keys to values"),
    "list document": ("- ties\n", 1, "the configuration is a list; it has to be a mapping of keys to values"),
    "mapping for a list": (ties("  model: A"), 4, "`models` is a mapping; it has to be a list"),
    "empty list": (
        "merge_method: ties\nmodels: []\nbase_model: A",
        2,
        "`models` is an empty list; give it at least one",
    ),
    "scalar parameters": (
        ties(rest="parameters: 3\n"),
        5,
        "`parameters` is `3`; it has to be a mapping of keys to values",
    ),
    "duplicate key": (
        ties("- {model: A, parameters: {weight: 1, weight: 2}}"),
        4,
        "`weight` is given twice (first in line 4)",
    ),
    "global value of a model": (
        ties("- {model: A, parameters: {weight: 1, normalize: true}}"),
        4,
        "`normalize` is one value for all models of a tensor; write it under `parameters` of the document",
    ),
    "merge value that differs": (
        ties(rest="parameters: {trim_scope: [tensor, model]}\n"),
        5,
        "`trim_scope` is one value for the whole merge; it cannot differ between tensors",
    ),
    "density that differs in a trim of all": (
        ties(rest="parameters: {trim_scope: model, density: [1, 0.5]}\n"),
        5,
        "`trim_scope: model` trims a model as a whole; `density` cannot differ between its tensors",
    ),
    "the same by a variant": (
        ties(
            "- {model: A, parameters: {weight: 1, density: [{filter: mlp, value: 0.5}]}}",
            "variant: reference\n",
        ),
        4,
        "`trim_scope: model` trims a model as a whole; `density` cannot differ",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line(name, refused):
    text, line, message = MISTAKES[name]
    error = refused(text)
    assert error.message.startswith(message) or message in error.message, error.message
    assert error.line == line, error
