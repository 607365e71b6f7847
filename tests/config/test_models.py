"""Models that are missing, too many, named wrongly or not possible yet are refused with their line."""

import pytest

from carrick.config import loads

PAIR = "models: [{model: A, parameters: {weight: 1}}, {model: B, parameters: {weight: 2}}]\n"


def ties(models="- {model: A, parameters: {weight: 1}}", rest=""):
    return f"merge_method: ties\nbase_model: base\nmodels:\n{models}\n{rest}"


MISTAKES = {
    "no models": ("merge_method: linear\n", 1, "no models are given; list them under `models`"),
    "models and slices": (
        ties(rest="slices: [{sources: [{model: A}]}]\n"),
        5,
        "`models` and `slices` exclude one another",
    ),
    "no base": (
        "merge_method: ties\n" + PAIR,
        2,
        "`ties` needs `base_model`: the model that the others are compared with",
    ),
    "no weight": (
        ties("- {model: A}"),
        4,
        "`A` has no `weight`, which `ties` needs; give it under `parameters` of this model",
    ),
    "no t": (
        "merge_method: slerp\nmodels: [{model: A}, {model: B}]\n",
        1,
        "`slerp` needs `t`; give it under `parameters`",
    ),
    "only the base": (
        ties("- {model: base}"),
        4,
        "`ties` merges at least 1 model besides the base `base`; none listed",
    ),
    "one model for a stock": (
        "merge_method: model_stock\nbase_model: A\nmodels: [{model: A}, {model: B}]",
        3,
        "`model_stock` merges at least 2 models besides the base `A`; 1 listed",
    ),
    "three models for slerp": (
        "merge_method: slerp\nbase_model: A\nmodels: [{model: A}, {model: B}, {model: C}]\nparameters: "
        "{t: 1}",
        3,
        "`slerp` merges 1 model besides the base `A`; 2 listed",
    ),
    "nuslerp onto itself": (
        "merge_method: nuslerp\nbase_model: A\n" + PAIR,
        3,
        "`nuslerp` merges 2 models besides the base `A`; 1 listed",
    ),
    "two to pass through": (
        "merge_method: passthrough\nmodels: [{model: A}, {model: B}]",
        2,
        "`passthrough` merges 1 model; 2 listed",
    ),
    "model twice": (
        ties("- {model: A, parameters: {weight: 1}}\n- {model: A, parameters: {weight: 1}}"),
        5,
        "`A` is listed twice; list it once, with the sum of its weights",
    ),
    "entry without model": (ties("- {parameters: {weight: 1}}"), 4, "an entry of `models` has no `model`"),
    "adapter without a name": (
        ties("- {model: org/base+, parameters: {weight: 1}}"),
        4,
        "`model` is `org/base+`; a reference is a path or Hub id, then at most one `@revision`, then adapters",
    ),
    "adapter with two revisions": (ties("- {model: A+b@c@d}"), 4, "`model` is `A+b@c@d`; a reference is"),
    "adapter without a path": (
        ties("- model: {model: {path: A}, lora: {weight: 2}}\n  parameters: {weight: 1}"),
        4,
        "an adapter of `model` has no `path`",
    ),
    "weight of an adapter": (
        ties("- model: {model: A, lora: {path: L, weight: high}}\n  parameters: {weight: 1}"),
        4,
        "the `weight` of an adapter of `model` is `high`; it has to be a finite number",
    ),
    "huge weight of an adapter": (
        ties("- {model: A+b:1e999}"),
        4,
        "the weight of an adapter in `model` is 1e999; it has to be finite",
    ),
    "misspelt key of an adapter": (
        ties("- {model: {model: A, lora: [{path: L, wieght: 2}]}}"),
        4,
        "`wieght` is not a key of an adapter; did you mean `weight`?",
    ),
    "no adapters": (ties("- {model: {model: A, lora: []}}"), 4, "`lora` is an empty list"),
    "two revisions": (
        ties("- {model: A@b@c}"),
        4,
        "`model` is `A@b@c`; a reference is a path or Hub id, then at most one `@rev",
    ),
    "empty revision": (ties("- {model: A@}"), 4, "`model` is `A@`; a reference is a path or Hub id"),
    "number for a model": (ties("- {model: 7}"), 4, "`model` is `7`; it has to be text"),
    "misspelt key of a reference": (
        ties("- {model: {model: {paht: A}}}"),
        4,
        "`paht` is not a key of a model's path; did you mean `path`?",
    ),
    "modules": (
        "merge_method: linear\nmodules: {text_decoder: {}}",
        2,
        "`modules` is not read yet; list the models under `models`",
    ),
    "union": (
        ties(rest="tokenizer_source: union\n"),
        5,
        "a `union` of tokenizers is not possible yet; give `base`",
    ),
    "union by default": (
        ties(rest="tokenizer: {}\n"),
        5,
        "`tokenizer` has no `source` (mergekit's default, `union`, is not",
    ),
    "tokens": (
        ties(rest="tokenizer: {source: base, tokens: {x: y}}\n"),
        5,
        "`tokens` is not possible yet; tokenizers are copied",
    ),
    "padding": (
        ties(rest="tokenizer: {source: base, pad_to_multiple_of: 8}\n"),
        5,
        "`pad_to_multiple_of` is not possible yet",
    ),
    "two tokenizers": (
        ties(rest="tokenizer_source: base\ntokenizer: {source: base}\n"),
        6,
        "`tokenizer` and `tokenizer_source` excl",
    ),
    "layers of another method": (
        ties(rest="layers: {first: 1}\n"),
        5,
        "`layers` belongs to `layer_swap`, not to `ties`",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line(name, refused):
    text, line, message = MISTAKES[name]
    error = refused(text)
    assert error.message.startswith(message) or message in error.message, error.message
    assert error.line == line, error


@pytest.mark.parametrize(
    ("sources", "line", "message"),
    [
        (
            "[{model: A, layer_range: [0, 4]}, {model: B, layer_range: [0, 5]}]",
            5,
            "`B` gives 5 layers to this slice and `A` gives 4; all sources of a slice give equally many",
        ),
        (
            "[{model: A}, {model: B, layer_range: [0, 5]}]",
            5,
            "`A` has no `layer_range`; give the first layer and the one after",
        ),
        (
            "[{model: A, layer_range: [4, 4]}]",
            5,
            "`layer_range` is [4, 4]; it has to be [first layer, the one after the last]",
        ),
        (
            "[{model: A, layer_range: [-1, 4]}]",
            5,
            "`layer_range` is [-1, 4]; it has to be [first layer, the one after the",
        ),
        (
            "[{model: A, layer_range: [0, 4, 5]}]",
            5,
            "`layer_range` is [0, 4, 5]; it has to be [first layer, the one after",
        ),
        (
            "[{model: A, layer_range: 4}]",
            5,
            "`layer_range` is `4`; it has to be [first layer, the one after the last]",
        ),
        (
            "[{model: A, layer_range: [0.5, 4]}]",
            5,
            "`layer_range` is [0.5, 4]; it has to be [first layer, the one after",
        ),
        (
            "[{model: A, layer_range: [0, 4]}, {model: A, layer_range: [0, 4]}]",
            5,
            "`A` is listed twice with the same layers",
        ),
        (
            "[{model: B, layer_range: [0, 4]}, {model: C, layer_range: [0, 4]}]",
            5,
            "the slice does not list the base model `A`; add it to `sources` with the layers to measure from",
        ),
    ],
)
def test_slices_that_cannot_be_stacked(sources, line, message, refused):
    error = refused(
        "merge_method: slerp\nbase_model: A\nparameters: {t: 0.5}\nslices:\n- sources: " + sources
    )
    assert message in error.message
    assert error.line == line


def test_slices_over_an_optional_base_list_it(refused):
    text = "merge_method: nuslerp\nbase_model: base\nparameters: {weight: 1}\nslices:\n- sources: [\n"
    two = "  {model: A, layer_range: [0, 2]}, {model: B, layer_range: [0, 2]}"
    assert "the slice does not list the base model `base`" in refused(text + two + "]").message
    (document,) = loads(text + two + ", {model: base, layer_range: [0, 2]}]")
    assert str(document.parts[0].base.ref) == "base"


def test_a_long_text_is_no_path():
    (document,) = loads(f"merge_method: passthrough\nmodels: [{{model: {'a' * 5000}@main}}]")
    assert document.donor.revision == "main"


def test_a_slice_may_merge_two_ranges_of_one_model():
    text = "merge_method: slerp\nbase_model: A\nparameters: {t: 0.5}\nslices:\n- sources: "
    (document,) = loads(text + "[{model: A, layer_range: [0, 4]}, {model: A, layer_range: [4, 8]}]")
    (part,) = document.parts
    assert part.base is not None
    assert (part.base.layer_range, part.merged[0].layer_range) == ((0, 4), (4, 8))
