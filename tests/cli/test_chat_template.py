"""`chat_template`: the formats known by name, rendered as transformers does, and the choice of `auto`."""

from __future__ import annotations

import json

import pytest
from jinja2.exceptions import TemplateError
from tokenizers import Tokenizer
from tokenizers import models as kinds
from transformers import PreTrainedTokenizerFast

from carrick.chat_templates import TEMPLATES
from carrick.config.keys import CHAT_TEMPLATES

TALK = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "2 + 2?"},
]
SYSTEM = {"role": "system", "content": "Be brief."}

# As those who made the formats publish them; <s> and </s> are the tokenizer's own first and last token.
WANTED = {
    (
        "alpaca",
        "talk",
    ): "<s>Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\nHi\n\n### Response:\nHello!</s>\n\n### Instruction:\n2 + 2?\n\n"
    "### Response:\n",
    ("alpaca", "system"): "<s>Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello!</s>\n\n"
    "### Instruction:\n2 + 2?\n\n### Response:\n",
    ("chatml", "talk"): "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n",
    ("chatml", "system"): "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n",
    (
        "exaone",
        "talk",
    ): "[|system|][|endofturn|]\n[|user|]Hi\n[|assistant|]Hello![|endofturn|]\n[|user|]2 + 2?\n[|assistant|]",
    ("exaone", "system"): "[|system|]Be brief.[|endofturn|]\n[|user|]Hi\n[|assistant|]Hello![|endofturn|]\n"
    "[|user|]2 + 2?\n[|assistant|]",
    ("llama3", "talk"): "<s><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n2 + 2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ("llama3", "system"): "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\n2 + 2?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ("mistral", "talk"): "<s> [INST] Hi [/INST] Hello!</s> [INST] 2 + 2? [/INST]",
    ("mistral", "system"): "<s> [INST] Be brief.\n\nHi [/INST] Hello!</s> [INST] 2 + 2? [/INST]",
}


@pytest.fixture(scope="module")
def tokenizer():
    words = Tokenizer(kinds.WordLevel({"<s>": 0, "</s>": 1, "[UNK]": 2}, unk_token="[UNK]"))
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>")


def rendered(tokenizer, name, talk, *, ask=True):
    return tokenizer.apply_chat_template(
        talk, chat_template=TEMPLATES[name], tokenize=False, add_generation_prompt=ask
    )


def test_every_name_that_is_read_has_a_text():
    assert set(CHAT_TEMPLATES) == {"auto", *TEMPLATES} == {"auto", *(name for name, _ in WANTED)}


@pytest.mark.parametrize("case", WANTED, ids=" ".join)
def test_formats_are_those_that_were_published(tokenizer, case):
    name, opening = case
    talk = [SYSTEM, *TALK] if opening == "system" else TALK
    assert rendered(tokenizer, name, talk) == WANTED[case]


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_was_answered_is_a_prefix_of_what_follows(tokenizer, name):
    """Training on a conversation and continuing it see the same text."""
    asked = rendered(tokenizer, name, TALK[:1])
    answered = rendered(tokenizer, name, TALK[:2], ask=False)
    assert answered.startswith(asked)
    assert rendered(tokenizer, name, TALK).startswith(answered.removesuffix("\n\n"))


def test_mistral_wants_turns_that_alternate(tokenizer):
    with pytest.raises(TemplateError, match="must alternate"):
        rendered(tokenizer, "mistral", [*TALK, TALK[0]])


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_named_template_is_written_where_tokenizers_look(carrick, models, out, name):
    answer = carrick("merge", models.config(chat_template=name), out)
    assert answer.code == 0, answer.err
    assert (out / "chat_template.jinja").read_text() == TEMPLATES[name]
    assert json.loads((out / "tokenizer_config.json").read_text())["chat_template"] == TEMPLATES[name]


def have(models, **templates):
    """Give models templates, each in one of the files that may hold them."""
    for name, (file, text) in templates.items():
        path = models[name] / file
        if file.endswith(".jinja"):
            path.write_text(text)
        else:
            own = json.loads(path.read_text()) if path.is_file() else {}
            path.write_text(json.dumps({**own, "chat_template": text}))


def five(models, **more):
    """math, code and three more."""
    for seed in range(3):
        models.write(f"m{seed}", 30 + seed)
    names = ("math", "code", "m0", "m1", "m2")
    sources = [{"model": str(models[name]), "parameters": {"weight": 0.2}} for name in names]
    return models.config(models=sources, chat_template="auto", **more)


SEVERAL = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "B"}]


def test_auto_takes_the_template_that_most_models_have(carrick, models, out):
    config = five(models)
    have(
        models,
        math=("chat_template.jinja", "A"),
        code=("tokenizer_config.json", "B"),
        m0=("tokenizer_config.json", SEVERAL),
    )
    answer = carrick("merge", config, out)
    assert answer.code == 0, answer.err
    assert (out / "chat_template.jinja").read_text() == "B"
    edited = json.loads((out / "tokenizer_config.json").read_text())
    assert edited == {"from": "math", "file": "tokenizer_config.json", "chat_template": "B"}


def test_auto_takes_the_first_of_equally_many_and_does_not_count_models_without(carrick, models, out):
    config = five(models)
    have(models, m0=("chat_template.json", "A"), m1=("chat_template.jinja", "B"))
    answer = carrick("merge", config, out)
    assert answer.code == 0, answer.err
    assert (out / "chat_template.jinja").read_text() == "A"


def test_auto_does_not_ask_a_model_that_gives_files_alone(carrick, models, out):
    config = five(models, base_model=str(models["base"]))
    have(models, base=("chat_template.jinja", "A"), m2=("chat_template.jinja", "B"))
    answer = carrick("merge", config, out)
    assert answer.code == 0, answer.err
    assert (out / "chat_template.jinja").read_text() == "B"


@pytest.mark.parametrize("templates", [True, False])
def test_auto_leaves_the_tokenizers_files_alone_where_nothing_changes(carrick, models, out, templates):
    config = five(models)
    if templates:
        have(models, math=("tokenizer_config.json", SEVERAL), m1=("chat_template.jinja", "B"))
    answer = carrick("merge", config, out)
    assert answer.code == 0, answer.err
    own = (models["math"] / "tokenizer_config.json").read_bytes()
    assert (out / "tokenizer_config.json").read_bytes() == own
    assert not (out / "chat_template.jinja").exists()
