"""Tiny adapters of every kind that PEFT writes, made by PEFT itself on random transformers models."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def llama(**changes: Any) -> Any:
    options = {**SMALL, "vocab_size": 32, "num_key_value_heads": 1, "tie_word_embeddings": False, **TOKENS}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**options, **changes}))


def llama_tied() -> Any:
    return llama(tie_word_embeddings=True)


def gpt2() -> Any:
    config = transformers.GPT2Config(
        n_embd=16, n_layer=2, n_head=2, vocab_size=32, n_positions=16, tie_word_embeddings=False, **TOKENS
    )
    return transformers.GPT2LMHeadModel(config)


def bert() -> Any:
    config = transformers.BertConfig(**SMALL, vocab_size=32, max_position_embeddings=16, num_labels=3)
    return transformers.BertForSequenceClassification(config)


def qwen2() -> Any:
    config = transformers.Qwen2Config(
        **SMALL, vocab_size=32, num_key_value_heads=1, tie_word_embeddings=False, **TOKENS
    )
    return transformers.Qwen2ForCausalLM(config)


class Convolutions(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Convolutions of one to three dimensions, one with a kernel of 1, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Conv1d(4, 6, 3)
        self.two = torch.nn.Conv2d(4, 6, (3, 2))
        self.point = torch.nn.Conv2d(6, 5, 1)
        self.three = torch.nn.Conv3d(2, 3, 2)
        self.linear = torch.nn.Linear(4, 7)


class Attention(torch.nn.Module):  # type: ignore[misc, name-defined]
    """torch's own attention, whose three projections are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = torch.nn.MultiheadAttention(8, 2)


@dataclass(frozen=True)
class Case:
    """A model and the options of its LoRA configuration."""

    model: Any
    options: dict[str, Any] = field(default_factory=dict)


def case(model: Any, *targets: str, **options: Any) -> Case:
    return Case(model, {"target_modules": list(targets), **options})


PATTERNS = {
    "rank_pattern": {"layers.1.self_attn.q_proj": 3, ".*v_proj": 2, "q_proj": 5},
    "alpha_pattern": {r"^model\.layers\.0\.self_attn\.q_proj": 7, "(k|v)_proj": 9},
}

CASES: dict[str, Case] = {
    "linear": case(llama, "q_proj", "v_proj", "down_proj"),
    "qwen2": case(qwen2, "q_proj", "k_proj", "o_proj"),
    "alpha": case(llama, "q_proj", lora_alpha=13),
    "regex_targets": Case(llama, {"target_modules": r".*layers\.1\..*_proj"}),
    "some_layers": case(llama, "q_proj", "o_proj", layers_to_transform=[1], layers_pattern="layers"),
    "rslora": case(llama, "q_proj", "up_proj", use_rslora=True),
    "patterns": case(llama, "q_proj", "k_proj", "v_proj", **PATTERNS),
    "patterns_rslora": case(llama, "q_proj", "k_proj", "v_proj", use_rslora=True, **PATTERNS),
    "embedding": case(llama, "q_proj", "embed_tokens", "lm_head"),
    "embedding_rslora": case(llama, "embed_tokens", use_rslora=True),
    "gpt2": case(gpt2, "c_attn", "c_proj", fan_in_fan_out=True),
    "gpt2_embedding": case(gpt2, "c_attn", "wte"),
    "gpt2_head": case(gpt2, "c_attn", "c_proj", "lm_head"),
    "dora": case(llama, "q_proj", "down_proj", use_dora=True),
    "dora_embedding": case(llama, "embed_tokens", use_dora=True),
    "dora_gpt2": case(gpt2, "c_attn", use_dora=True, fan_in_fan_out=True),
    "dora_convolutions": case(Convolutions, "one", "two", "linear", use_dora=True),
    "lora_bias": case(bert, "query", "dense", lora_bias=True, task_type="SEQ_CLS"),
    "bias_all": case(bert, "query", bias="all", task_type="SEQ_CLS"),
    "bias_lora_only": case(bert, "query", bias="lora_only", task_type="SEQ_CLS"),
    "saved": case(llama, "q_proj", modules_to_save=["lm_head", "embed_tokens", "input_layernorm"]),
    "tokens": case(llama, "q_proj", trainable_token_indices=[1, 5, 30]),
    "tokens_by_name": case(llama, "q_proj", trainable_token_indices={"embed_tokens": [4, 2], "lm_head": [7]}),
    "tokens_tied": case(llama_tied, "q_proj", trainable_token_indices=[3]),
    "convolutions": case(Convolutions, "one", "two", "point", "three", "linear"),
    "convolutions_bias": case(Convolutions, "one", "two", "point", lora_bias=True),
    "orthogonal": case(llama, "q_proj", init_lora_weights="orthogonal"),
}


@dataclass
class Made:
    """An adapter on disk, its base, and what PEFT makes of the two."""

    folder: Path
    base: dict[str, NDArray[np.float64]]
    merged: dict[str, NDArray[np.float64]]


def tensors(module: Any) -> dict[str, NDArray[np.float64]]:
    """Tensors as a checkpoint has them: tied ones once."""
    first: dict[int, str] = {}
    for name, tensor in module.state_dict().items():
        first.setdefault(tensor.data_ptr(), name)
    return {name: module.state_dict()[name].detach().numpy().copy() for name in first.values()}


def wrap(chosen: Case, seed: int, **changes: Any) -> Any:
    """A model in float64 with an adapter of which every number is random."""
    torch.manual_seed(seed)
    model = chosen.model().double()
    config = peft.LoraConfig(r=4, **{**chosen.options, **changes})
    wrapped = peft.get_peft_model(model, config)
    randomise(wrapped)
    return wrapped


def randomise(wrapped: Any) -> None:
    with torch.no_grad():
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)


def make(chosen: Case, folder: Path, seed: int = 0, **changes: Any) -> Made:
    """Save an adapter with PEFT, and merge it into its base with PEFT."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = wrap(chosen, seed, **changes)
        wrapped.save_pretrained(folder)
        # The base as it was: the same seed makes the same model.
        torch.manual_seed(seed)
        base = tensors(chosen.model().double())
        return Made(folder, base, tensors(wrapped.merge_and_unload()))
