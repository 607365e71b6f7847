"""The settings of layer_swap."""

import pytest

from carrick.config import loads
from carrick.errors import ConfigError

MODELS = "models: [{model: math}, {model: swahili}]\n"


def swap(rest="", models=MODELS):
    (document,) = loads("merge_method: layer_swap\n" + models + rest, "c.yml")
    return document.layer_swap


def test_without_roles_the_first_model_is_the_task_expert():
    got = swap()
    assert (str(got.task.ref), str(got.language.ref)) == ("math", "swahili")
    assert (got.partition, got.first, got.last, got.match) == ("B", None, None, None)
    assert (got.embeddings, got.head, got.final_norm) == ("task", "task", "task")


@pytest.mark.parametrize("roles", [("language", "task"), ("language", None), (None, "task")])
def test_roles_tell_the_experts(roles):
    entries = [
        f"- model: {name}\n" + (f"  parameters: {{role: {role}}}\n" if role else "")
        for name, role in zip(("swahili", "math"), roles, strict=True)
    ]
    got = swap(models="models:\n" + "".join(entries))
    assert (str(got.task.ref), str(got.language.ref)) == ("math", "swahili")


def test_layers_by_count_fraction_and_pattern():
    got = swap("layers: {first: 4, last: 0.25}\nparameters: {embeddings: language, head: average}\n")
    assert (got.first, got.last, got.partition) == (4, 0.25, None)
    assert isinstance(got.last, float)
    assert isinstance(got.first, int)
    assert (got.embeddings, got.head, got.final_norm) == ("language", "average", "task")
    assert swap("layers: {last: 2}\n").first == 0
    assert swap(r"layers: {match: 'layers\.[0-3]\.'}" + "\n").match.search("model.layers.2.mlp")
    got = swap("base_model: base\nparameters: {partition: A, embeddings: base}\n")
    assert (got.partition, got.embeddings) == ("A", "base")


@pytest.mark.parametrize(
    ("rest", "line", "message"),
    [
        (
            "layers: {first: 4}\nparameters: {partition: A}\n",
            4,
            "`partition` and `layers` exclude one another",
        ),
        ("layers: {first: 4, match: x}\n", 3, "`match` excludes `first` and `last`; remove one or the other"),
        ("layers: {}\n", 3, "`layers` needs `match`, or `first` and `last`"),
        (
            "layers: {first: 0}\n",
            3,
            "`first` and `last` are both 0: nothing would come from the language expert",
        ),
        (
            "layers: {first: -1}\n",
            3,
            "`first` is `-1`; it has to be a number of layers, or a fraction from 0.0 to 1.0",
        ),
        (
            "layers: {last: 1.5}\n",
            3,
            "`last` is `1.5`; it has to be a number of layers, or a fraction from 0.0 to 1.0",
        ),
        ("layers: {first: .nan}\n", 3, "`first` is `nan`; it has to be a number of layers"),
        (
            "layers: {match: '('}\n",
            3,
            "`match` is `(`, which is not a regular expression: missing ), unterminated",
        ),
        ("layers: {frist: 1}\n", 3, "`frist` is not a key of `layers`; did you mean `first`?"),
        ("parameters: {partition: D}\n", 3, "`partition` is `D`; it has to be `A` or `B` or `C` or `Z`"),
        (
            "parameters: {embeddings: base}\n",
            3,
            "`embeddings` comes from the base, but there is no `base_model`; add it",
        ),
        ("parameters: {head: [task, language]}\n", 3, "`head` is one value for the whole merge"),
        ("variant: paper\n", 3, "`layer_swap` has no variants"),
    ],
)
def test_settings_that_are_refused(rest, line, message):
    with pytest.raises(ConfigError) as caught:
        swap(rest)
    assert message in caught.value.message
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (
            "models: [{model: A, parameters: {role: task}}, {model: B, parameters: {role: task}}]\n",
            "both models have the role `task`",
        ),
        (
            "models: [{model: A, parameters: {role: tsk}}, {model: B}]\n",
            "`role` is `tsk`; did you mean `task`?",
        ),
        ("models: [{model: A}]\n", "`layer_swap` merges 2 models; 1 listed"),
        (
            "models: [{model: A}, {model: B}]\nbase_model: B\n",
            "`layer_swap` merges 2 models besides the base `B`; 1 listed",
        ),
        (
            "slices: [{sources: [{model: A, layer_range: [0, 2]}]}]\n",
            "`layer_swap` takes whole models; list them under `models`",
        ),
    ],
)
def test_models_that_are_refused(models, message):
    with pytest.raises(ConfigError) as caught:
        swap(models=models)
    assert message in caught.value.message
