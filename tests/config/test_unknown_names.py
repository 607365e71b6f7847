"""A name that is not known is refused with its line and the nearest valid name."""

import pytest

PAIR = "models: [{model: A, parameters: {weight: 1}}, {model: B, parameters: {weight: 2}}]\n"


def ties(models="- {model: A, parameters: {weight: 1}}", rest=""):
    return f"merge_method: ties\nbase_model: base\nmodels:\n{models}\n{rest}"


MISTAKES = {
    "misspelt method": (
        "merge_method: tise\n" + PAIR,
        1,
        "`tise` is not a merge method; did you mean `ties`?",
    ),
    "unknown method": (
        "\nmerge_method: 42x\n" + PAIR,
        2,
        "`42x` is not a merge method; the methods are linear, task_",
    ),
    "mergekit's method": (
        "merge_method: karcher\n" + PAIR,
        1,
        "mergekit's `karcher` is not available here; the methods are linear, ",
    ),
    "no method": (PAIR, 1, "`merge_method` is missing; it is one of linear, task_arithmetic, ties, "),
    "misspelt merge_method": (
        PAIR + "merge_metod: ties",
        2,
        "`merge_metod` is not a key of a configuration; did you mean `merge_method`?",
    ),
    "misspelt top-level key": (
        ties(rest="base_modle: A\n"),
        5,
        "`base_modle` is not a key of a configuration; did you mean `base_model`?",
    ),
    "unknown top-level key": (
        ties(rest="zzz: A\n"),
        5,
        "`zzz` is not a key of a configuration; the keys here are merge_",
    ),
    "parameter at the top": (
        ties(rest="density: 1\n"),
        5,
        "`density` is a parameter of `ties`; write it under `parameters`",
    ),
    "top-level key below": (
        ties(rest="parameters: {seed: 1}\n"),
        5,
        "`seed` is not a parameter; write it at the top",
    ),
    "misspelt parameter": (
        ties("- model: A\n  parameters:\n    weight: 1\n    denisty: 0.5"),
        7,
        "`denisty` is not a parameter of `ties`; did you mean `density`?",
    ),
    "unknown parameter": (
        ties(rest="parameters: {zzz: 1}\n"),
        5,
        "`zzz` is not a parameter of `ties`; its parameters are weight, density, normalize, ",
    ),
    "parameter of another method": (
        ties(rest="parameters: {t: 1}\n"),
        5,
        "`t` is not a parameter of `ties` (slerp takes it); remove it, or use one of weight, ",
    ),
    "misspelt key of a model": (
        ties("- {modle: A}"),
        4,
        "`modle` is not a key of an entry of `models`; did you mean `model`?",
    ),
    "misspelt key of a condition": (
        ties("- {model: A, parameters: {weight: [{fliter: mlp, value: 1}]}}"),
        4,
        "`fliter` is not a key of a condition of `weight`; did you mean `filter`?",
    ),
    "misspelt dtype": (
        ties(rest="dtype: bfloat\n"),
        5,
        "`dtype` is `bfloat`, which is not a type to merge in; did you mean `bfloat16`?",
    ),
    "integer dtype": (
        ties(rest="out_dtype: int64\n"),
        5,
        "`out_dtype` is `int64`, which is not a type to merge in",
    ),
    "misspelt variant": (
        ties(rest="variant: papr\n"),
        5,
        "the variant of `ties` is `papr`; did you mean `paper`?",
    ),
    "variant of none": (
        "merge_method: linear\n" + PAIR + "variant: paper",
        3,
        "`linear` has no variants; remove `variant`",
    ),
    "two variants": (
        ties(rest="variant: paper\nparameters: {variant: peft}\n"),
        6,
        "`variant` is given twice, here and at the top of the document",
    ),
    "misspelt choice": (
        ties(rest="parameters: {vote: frequancy}\n"),
        5,
        "`vote` is `frequancy`; it has to be `weighted` or `sum` or `frequency`; did you mean `frequency`?",
    ),
    "misspelt policy": (ties(rest="tie: kep\n"), 5, "`tie` is `kep`; did you mean `keep`?"),
    "misspelt template": (
        ties(rest="chat_template: chatlm\n"),
        5,
        "which is not a known template; did you mean `chatml`?",
    ),
    "misspelt role": (
        ties(rest="roles: {atention: x}\n"),
        5,
        "`atention` is not a role of tensors; did you mean `attention`?",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_named_with_its_line(name, refused):
    text, line, message = MISTAKES[name]
    error = refused(text)
    assert error.message.startswith(message) or message in error.message, error.message
    assert error.line == line, error
