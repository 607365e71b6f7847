"""Tiny random models with tokenizers, and rows, made on the fly."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

if TYPE_CHECKING:
    from pathlib import Path

WORDS = [
    "the", "cat", "dog", "sat", "ran", "on", "a", "mat", "log", "good", "bad", "day", "rain", "sun",
    "one", "two", "three", "four", "five", "is", "not", "very", "so", "how", "many",
]  # fmt: skip
SPECIAL = ["<pad>", "<unk>", "<eos>"]


def tokenizer(folder: Path) -> None:
    words = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    fast = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="<unk>"))
    fast.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=fast, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", model_max_length=64
    )
    made.save_pretrained(folder)


def llama(folder: Path, *, layers: int = 2, dtype: Any = None, seed: int = 0) -> Path:
    """A causal language model of width 32."""
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    transformers.LlamaForCausalLM(config).to(dtype or torch.float32).save_pretrained(folder)
    tokenizer(folder)
    return folder


def bert(folder: Path, *, dropout: float = 0.1, seed: int = 0) -> Path:
    """An encoder of width 32, with a pooler as BERT has it."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        pad_token_id=0,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer(folder)
    return folder


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def questions(count: int, *, start: int = 0) -> list[dict[str, Any]]:
    """Prompts and answers of different lengths."""
    return [
        {
            "prompt": " ".join(["how many"] + [WORDS[(start + n + k) % 9] for k in range(1 + n % 4)]),
            "completion": f" {WORDS[14 + (start + n) % 5]} is {'good' if n % 2 else 'not bad'}",
        }
        for n in range(count)
    ]


def opinions(count: int) -> list[dict[str, Any]]:
    """Texts whose label shows in one word."""
    return [
        {
            "text": f"{'the ' * (n % 5)}{'cat' if n % 3 else 'dog'} is {'good' if n % 2 else 'bad'}",
            "label": n % 2,
        }
        for n in range(count)
    ]
