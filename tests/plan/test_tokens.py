"""Rows are merged by number: tokenizers that mean other tokens by them are refused where one is asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from carrick.errors import PlanError
from carrick.finish import companions
from plan.tiny import llama, llama_config, plan_of, write

if TYPE_CHECKING:
    from pathlib import Path

WORDS = {f"w{number}": number for number in range(6)}


def tokenizer(folder: Path, added: dict[str, int], *, kind: str = "bpe") -> Path:
    """Eight rows at the most: six words and what is added."""
    if kind == "vocab":
        (folder / "vocab.json").write_text(json.dumps(WORDS))
        (folder / "added_tokens.json").write_text(json.dumps(added))
        return folder
    vocabulary = [[word, -1.0] for word in WORDS] if kind == "unigram" else WORDS
    tokens = [{"id": number, "content": token} for token, number in added.items()]
    content = {"model": {"vocab": vocabulary}, "added_tokens": tokens}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    return folder


def pair(folder: Path, first: dict[str, int], second: dict[str, int], kind: str = "bpe") -> list[Path]:
    made = [write(folder / name, llama(), llama_config()) for name in ("a", "b")]
    return [tokenizer(one, added, kind=kind) for one, added in zip(made, (first, second), strict=True)]


def linear(models: list[Path], source: Path | str | None) -> str:
    listed = "\n".join(f"- {{model: {model}, parameters: {{weight: 1}}}}" for model in models)
    asked = "" if source is None else f"tokenizer_source: {source}\n"
    return f"merge_method: linear\n{asked}models:\n{listed}\n"


CHAT = {"<|im_start|>": 6, "<|im_end|>": 7}


@pytest.mark.parametrize("kind", ["bpe", "unigram", "vocab"])
def test_other_tokens_of_one_row(kind: str, tmp_path: Path) -> None:
    models = pair(tmp_path, CHAT, {"<|im_start|>": 6, "<pad>": 7}, kind)
    with pytest.raises(
        PlanError, match=r"row 7 of the embeddings is '<\|im_end\|>' for .*a and '<pad>' for .*b;"
    ):
        plan_of(linear(models, "base"))
    plan_of(linear(models, None))  # by number, as nothing else was asked for


def test_tokens_that_agree_or_that_one_lacks(tmp_path: Path) -> None:
    models = pair(tmp_path, CHAT, {"<|im_start|>": 6})
    for source in ("base", models[1]):
        plan_of(linear(models, source))


def test_models_that_give_layers_alone(tmp_path: Path) -> None:
    models = pair(tmp_path, CHAT, {"<pad>": 6})
    slices = "".join(
        f"- sources: [{{model: {model}, layer_range: [{first}, {first + 2}]}}]\n"
        for model, first in zip([models[0], models[1], models[0]], (0, 1, 2), strict=True)
    )
    plan_of(f"merge_method: passthrough\nbase_model: {models[0]}\ntokenizer_source: base\nslices:\n{slices}")


def test_a_tokenizer_with_more_tokens_than_rows(tmp_path: Path) -> None:
    models = pair(tmp_path, CHAT, CHAT)
    (tmp_path / "c").mkdir()
    other = tokenizer(tmp_path / "c", CHAT | {"<tool>": 8})
    with pytest.raises(PlanError, match="'<tool>' as number 8, and the merged embeddings have 8 rows"):
        plan_of(linear(models, other))


def test_a_merged_model_may_have_tokens_without_rows(tmp_path: Path) -> None:
    """As Llama-2 with a padding token that no row was added for."""
    models = pair(tmp_path, CHAT | {"<pad>": 8}, CHAT)
    for source in ("base", models[0]):
        plan_of(linear(models, source))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"model": []}', '{"model": {"vocab": [[]]}}', '{"model": {"vocab": {"a": "x"}}}',
     '{"model": {"vocab": {}}, "added_tokens": [{"id": 1}]}'],
)  # fmt: skip
def test_files_that_are_no_tokenizer_say_nothing(text: str, tmp_path: Path) -> None:
    models = pair(tmp_path, CHAT, CHAT)
    (models[1] / "tokenizer.json").write_text(text)
    plan_of(linear(models, "base"))


def test_a_model_without_the_tokenizer_that_is_asked_of_it(tmp_path: Path) -> None:
    models = pair(tmp_path, CHAT, CHAT)
    bare = write(tmp_path / "bare", llama(), llama_config())
    with pytest.raises(PlanError, match="bare: `tokenizer_source` asks for its tokenizer, and it has none"):
        companions(plan_of(linear(models, bare)))
